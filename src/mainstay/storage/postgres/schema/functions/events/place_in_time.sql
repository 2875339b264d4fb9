-- A position before which every event was recorded before a moment: where a reader begins who wants those recorded since.
--
-- Called by Operator.events. Locks nothing. Halves the feed, looking at a hundred events each time: when an event was recorded grows with its
-- position but for long transactions, which recorded theirs when they began. Of events in the midst of an import that is still longer than that, it may miss some.
create or replace function eventsource.place_in_time(p_since timestamptz, p_horizon bigint)
returns bigint
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_low bigint := 0;
    v_high bigint := p_horizon;
    v_middle bigint;
    v_some bigint;
begin
    while v_low < v_high loop
        v_middle := v_low + (v_high - v_low) / 2;
        select min(e.position) into v_some
        from (
            select e.position, e.recorded_at from eventsource.event as e
            where e.position > v_middle and e.position <= p_horizon order by e.position limit 100
        ) as e
        where e.recorded_at >= p_since;
        if v_some is null then
            v_low := v_middle + 1;
        else
            v_high := v_middle;
        end if;
    end loop;
    return least(v_low, p_horizon);
end;
$$;
