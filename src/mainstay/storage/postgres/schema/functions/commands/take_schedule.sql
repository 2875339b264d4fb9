-- Lock one schedule of a domain that is due, the longest due first.
--
-- Called by workers, which then compute what is due and call fire_schedule in the same transaction. Passes by schedules that somebody else
-- fires or changes, and those in p_except, which could not be fired just now. Locks the row until the transaction ends;
-- a crash before its COMMIT leaves the schedule due. Returns no row if nothing is due.
create or replace function commandbus.take_schedule(p_domain text, p_except text[])
returns setof commandbus.schedule
language plpgsql volatile
set plan_cache_mode = force_generic_plan
as $$
declare
    v_now timestamptz := clock_timestamp();
begin
    return query
        select s.* from commandbus.schedule as s
        where s.domain = p_domain and not s.is_paused and s.next_due_at <= v_now and s.name <> all (p_except)
        order by s.next_due_at
        limit 1
        for update skip locked;
end;
$$;
