-- Count failed attempts of types that have breakers, open what must open, and park what is held instead of retried or troubleshot.
--
-- Called by put_aside in domains that have rules, after the command rows were written, with its outcomes and the ids of those that would be
-- tried again or go to an operator. Returns those that are parked: PENDING, with the attempt that failed taken back, so that an outage
-- exhausts nothing. Only transient failures count; a command that is to be canceled is left alone.
-- What comes in one flush counts together, and is held together when it opens a breaker.
--
-- Locks: the domain's row of breaker_rule, if there is something to count; the caller holds the queue and command rows. So failures of these types
-- take turns, and two that come at the same time cannot both be the one before the last. Two commands at least must fail, so that one
-- which never works does not hold up its kind.
-- A crash before COMMIT leaves the commands leased and nothing counted.
create or replace function commandbus.hold_failures(p_domain text, p_outcomes jsonb, p_command_ids uuid[])
returns uuid[]
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
as $$
declare
    v_now timestamptz;
    v_alike record;
    v_rule commandbus.breaker_rule;
    v_breaker commandbus.breaker;
    v_is_held boolean;
    v_attempts bigint;
    v_commands bigint;
    v_failed integer;
    v_held uuid[] := '{}';
begin
    for v_alike in
        select c.command_type, commandbus.fingerprint(c.error_message) as fingerprint, array_agg(c.command_id) as ids,
               max(c.error_message) as message
        from jsonb_to_recordset(p_outcomes) as o(command_id uuid, lease_no bigint, verb text, exhausted boolean)
        join commandbus.command as c on c.command_id = any (array[o.command_id]) and c.domain || '' = p_domain
        join commandbus.breaker_rule as r on r.domain = p_domain and r.command_type = any (array[c.command_type])
        where o.command_id = any (p_command_ids) and o.lease_no = c.lease_no and c.cancel_request is null
          and (o.verb = 'RETRY' or o.verb = 'TROUBLESHOOT' and o.exhausted)
        group by 1, 2
        order by 1, 2
    loop
        if v_now is null then
            perform commandbus.lock_breakers(p_domain);
            v_now := clock_timestamp();
        end if;
        select r.* into v_rule from commandbus.breaker_rule as r
        where r.domain = p_domain and r.command_type = v_alike.command_type;
        continue when not found;
        select b.* into v_breaker from commandbus.breaker as b
        where b.domain = p_domain and b.command_type = v_alike.command_type and b.fingerprint = v_alike.fingerprint;
        v_is_held := found and not v_breaker.is_forced;

        if v_rule.failures is not null and v_breaker.state is distinct from 'OPEN' then
            delete from commandbus.breaker_failure as f
            where f.domain = p_domain and f.command_type = v_alike.command_type and f.at <= v_now - make_interval(secs => v_rule.within);
            insert into commandbus.breaker_failure (domain, command_type, fingerprint, at, command_id)
            select p_domain, v_alike.command_type, v_alike.fingerprint, v_now, t.id from unnest(v_alike.ids) as t(id);
            select count(*), count(distinct f.command_id) into v_attempts, v_commands
            from commandbus.breaker_failure as f
            where f.domain = p_domain and f.command_type = v_alike.command_type and f.fingerprint = v_alike.fingerprint;
            if v_attempts >= v_rule.failures and (v_is_held or v_commands >= least(2, v_rule.failures)) then
                perform commandbus.trip_breaker(v_rule, v_alike.fingerprint, v_alike.message, null, null);
                v_is_held := true;
            end if;
        end if;
        continue when not v_is_held;
        v_held := v_held || v_alike.ids;
        if v_breaker.probe_id = any (v_alike.ids) then
            v_failed := v_breaker.failed_probes + 1;
            update commandbus.breaker as b
            set probe_id = null, failed_probes = v_failed, next_at = v_now + commandbus.breaker_wait(v_rule.probe_after, v_failed)
            where b.domain = p_domain and b.command_type = v_alike.command_type and b.fingerprint = v_alike.fingerprint;
            perform commandbus.note_breaker(
                p_domain, v_alike.command_type, v_alike.fingerprint, 'PROBE_FAILED', null, null,
                jsonb_build_object('command_id', v_breaker.probe_id));
        end if;
    end loop;
    if v_held <> '{}' then
        perform commandbus.hold(p_domain, v_held, 1);
    end if;
    return v_held;
end;
$$;
