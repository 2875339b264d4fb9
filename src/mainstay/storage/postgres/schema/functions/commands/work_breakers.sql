-- Do what is due for the breakers of a domain: judge probes, let the next one go, let drip what waits, and end those that hold nothing.
--
-- Called by receive in domains that have breakers. Of an open one, one command at a time is let go, the longest waiting first; one that
-- fails again is parked again, behind the others. A probe that completes, or fails by a business rule, closes the breaker; one that
-- ends otherwise (another failure, a cancel) says nothing, and another goes after the same wait. Those that expired meanwhile go without being
-- probes, a hundred at a time: receive ends them. While it closes, `drip` commands a second are let go,
-- a second's worth at once at most.
--
-- Locks: the domain's row of breaker_rule, only if something is due, and not if somebody else has it; then parked rows, skipping those that
-- a cancel holds, then command rows. That row makes the probe the only one: two receivers would each see none under way.
-- A crash before COMMIT leaves everything parked.
create or replace function commandbus.work_breakers(p_domain text)
returns void
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_breaker commandbus.breaker;
    v_rule commandbus.breaker_rule;
    v_status text;
    v_base timestamptz;
    v_ids uuid[];
begin
    if not exists (select from commandbus.breaker as b where b.domain = p_domain and commandbus.breaker_due(b) <= v_now) then
        return;
    end if;
    if not commandbus.try_lock_breakers(p_domain) then
        return;
    end if;
    v_now := clock_timestamp();
    for v_breaker in
        select b.* from commandbus.breaker as b
        where b.domain = p_domain and commandbus.breaker_due(b) <= v_now
        order by b.command_type, b.fingerprint
    loop
        select r.* into v_rule from commandbus.breaker_rule as r
        where r.domain = p_domain and r.command_type = v_breaker.command_type;
        continue when not found;  -- fsck names it
        if v_breaker.probe_id is not null then
            select c.status into v_status from commandbus.command as c
            where c.command_id = v_breaker.probe_id and c.domain = p_domain;
            if v_status in ('COMPLETED', 'FAILED') then
                perform commandbus.begin_closing(v_breaker, false, null, null);
                v_breaker.state := 'CLOSING';
                v_breaker.next_at := v_now;
            else
                update commandbus.breaker as b
                set probe_id = null, next_at = v_now + commandbus.breaker_wait(v_rule.probe_after, v_breaker.failed_probes)
                where b.domain = p_domain and b.command_type = v_breaker.command_type and b.fingerprint = v_breaker.fingerprint;
                continue;
            end if;
        end if;

        v_base := greatest(v_breaker.next_at, v_now - interval '1 second');
        select array_agg(l.command_id) into v_ids
        from (
            select p.command_id from commandbus.parked as p
            where p.domain = p_domain and p.command_type = v_breaker.command_type and p.held_by = v_breaker.fingerprint
            order by p.since, p.command_id
            limit case when v_breaker.state = 'OPEN' then 1
                else 1 + floor(extract(epoch from v_now - v_base) * v_rule.drip) end
            for update skip locked
        ) as l;
        if v_breaker.state = 'OPEN' and exists (
            select from commandbus.command as c where c.command_id = v_ids[1] and c.domain = p_domain and c.expires_at <= v_now)
        then
            select array_agg(c.command_id) into v_ids
            from (
                select p.command_id from commandbus.parked as p
                where p.domain = p_domain and p.command_type = v_breaker.command_type and p.held_by = v_breaker.fingerprint
                order by p.since, p.command_id
                limit 100
                for update skip locked
            ) as l
            join commandbus.command as c on c.command_id = any (array[l.command_id]) and c.domain || '' = p_domain
            where c.expires_at <= v_now;
            perform commandbus.release_held(p_domain, v_ids, null);
            continue;
        end if;
        if v_ids is not null and v_breaker.state = 'OPEN' then
            perform commandbus.release_held(p_domain, v_ids, jsonb_build_object('probe', true));
            update commandbus.breaker as b set probe_id = v_ids[1]
            where b.domain = p_domain and b.command_type = v_breaker.command_type and b.fingerprint = v_breaker.fingerprint;
            perform commandbus.note_breaker(
                p_domain, v_breaker.command_type, v_breaker.fingerprint, 'PROBED', null, null,
                jsonb_build_object('command_id', v_ids[1]));
        elsif v_ids is not null then
            perform commandbus.release_held(p_domain, v_ids, null);
            update commandbus.breaker as b set next_at = v_base + make_interval(secs => cardinality(v_ids) / v_rule.drip)
            where b.domain = p_domain and b.command_type = v_breaker.command_type and b.fingerprint = v_breaker.fingerprint;
        elsif not exists (
                select from commandbus.parked as p
                where p.domain = p_domain and p.command_type = v_breaker.command_type and p.held_by = v_breaker.fingerprint)
            and (v_rule.failures is null or v_breaker.next_at + make_interval(secs => v_rule.within) <= v_now)
        then
            delete from commandbus.breaker as b
            where b.domain = p_domain and b.command_type = v_breaker.command_type and b.fingerprint = v_breaker.fingerprint;
            delete from commandbus.breaker_failure as f
            where f.domain = p_domain and f.command_type = v_breaker.command_type and f.fingerprint = v_breaker.fingerprint;
            perform commandbus.note_breaker(p_domain, v_breaker.command_type, v_breaker.fingerprint, 'ENDED');
            perform commandbus.remove_rules(p_domain);
        end if;
    end loop;
end;
$$;
