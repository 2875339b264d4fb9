-- The steps of a process, in order.
--
-- Called after lock_process, and by whoever shows a process. Locks nothing.
create or replace function commandbus.process_steps(p_process_id uuid)
returns setof commandbus.process_step
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
begin
    return query select s.* from commandbus.process_step as s where s.process_id = p_process_id order by s.step_no;
end;
$$;
