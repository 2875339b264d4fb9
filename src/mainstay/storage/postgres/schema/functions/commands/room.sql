-- How many commands of a type may start now; null: any number.
--
-- Called by receive's helpers, under the domain's lock to decide, and without it to see whether the lock is worth taking, and by
-- about_to_sleep. Counts only slots that hold, see holds_slot. Locks nothing.
create or replace function commandbus.room(p_gate commandbus.gate)
returns integer
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_room integer;
begin
    if p_gate.paused_at is not null then
        return 0;
    end if;
    if p_gate.max_running is not null then
        select p_gate.max_running - count(*) into v_room
        from commandbus.running_slot as s
        join commandbus.command as c on c.command_id = any (array[s.command_id]) and c.domain || '' = s.domain
        where s.domain = p_gate.domain and s.command_type = p_gate.command_type
          and commandbus.holds_slot(c.status, c.lease_no, s.lease_no);
    end if;
    if p_gate.rate is not null then
        select least(
            v_room, p_gate.rate - coalesce(sum(g.starts), 0),
            p_gate.burst - coalesce(sum(g.starts) filter (
                where g.at > v_now - make_interval(secs => p_gate.per_seconds * p_gate.burst / p_gate.rate)), 0))
        into v_room
        from commandbus.limit_grant as g
        where g.domain = p_gate.domain and g.command_type = p_gate.command_type
          and g.at > v_now - make_interval(secs => p_gate.per_seconds + commandbus.rate_slack(p_gate.per_seconds));
    end if;
    return case when v_room < 0 then 0 else v_room end;
end;
$$;
