-- Of retries that are due, park those that failed as a breaker says that they will fail again. Returns the others.
--
-- Called by promote in domains that have breakers, which took them out of deferred and holds those rows. Waits for the domain's lock if
-- one of them is to be parked; then locks command rows in the order of ids.
create or replace function commandbus.hold_due(p_domain text, p_command_ids uuid[])
returns uuid[]
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
as $$
declare
    v_alike uuid[];
    v_is_locked boolean := false;
begin
    loop
        select array_agg(c.command_id) into v_alike
        from unnest(p_command_ids) as t(id)
        join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain
        join commandbus.breaker as b on b.domain = p_domain and b.command_type = any (array[c.command_type])
        where c.error_message is not null and not b.is_forced and b.fingerprint = commandbus.fingerprint(c.error_message)
          and c.status = 'PENDING';
        exit when v_alike is null or v_is_locked;
        perform commandbus.lock_breakers(p_domain);
        v_is_locked := true;
    end loop;
    if v_alike is null then
        return p_command_ids;
    end if;
    perform commandbus.hold(p_domain, v_alike, 0);
    return array(select t.id from unnest(p_command_ids) as t(id) where t.id <> all (v_alike));
end;
$$;
