-- Note that commands of a type with a limit are about to start: a slot for each, and a grant if their rate is limited.
--
-- Called by release_parked and admit under the domain's lock, before receive draws the commands' next lease_no, which the slots name.
-- Returns {command_id: seconds within which it must start, or null}.
create or replace function commandbus.occupy(p_gate commandbus.gate, p_command_ids uuid[], p_keys text[])
returns jsonb
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_slack double precision;
begin
    if p_gate.max_running is null and p_gate.per is null and p_gate.rate is null then
        return '{}';
    end if;
    insert into commandbus.running_slot as s (domain, command_type, limit_key, command_id, lease_no)
    select p_gate.domain, p_gate.command_type, t.key, c.command_id, c.lease_no + 1
    from unnest(p_command_ids, p_keys) as t(id, key)
    join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_gate.domain
    on conflict on constraint running_slot_pkey do update set lease_no = excluded.lease_no;
    if p_gate.rate is not null then
        v_slack := commandbus.rate_slack(p_gate.per_seconds);
        delete from commandbus.limit_grant as g
        where g.domain = p_gate.domain and g.command_type = p_gate.command_type
          and g.at < v_now - make_interval(secs => p_gate.per_seconds + v_slack);
        insert into commandbus.limit_grant (domain, command_type, at, starts)
        values (p_gate.domain, p_gate.command_type, v_now, cardinality(p_command_ids));
    end if;
    return (select jsonb_object_agg(t.id, v_slack) from unnest(p_command_ids) as t(id));
end;
$$;
