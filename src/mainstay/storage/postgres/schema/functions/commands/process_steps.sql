-- The steps of a process, in order: all that it ever sent.
--
-- Called by whoever shows a process, and by a move whose process was not done in time, which ends all that are under way; other moves
-- ask process_standing. Locks nothing.
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
