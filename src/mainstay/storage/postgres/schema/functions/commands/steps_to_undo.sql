-- The steps of a process that were done and are not undone, the last first; those that come after a given one, if one is given.
--
-- Called by moves that undo, after lock_process. advance_process links each step that is done to the one done before it, and when one is
-- being undone, the process goes on with the one before: so this reads what it returns, however many steps there are. Locks nothing.
create or replace function commandbus.steps_to_undo(p_process_id uuid, p_after integer, p_limit integer)
returns setof commandbus.process_step
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
declare
    v_step commandbus.process_step;
    v_next integer;
begin
    if p_after is null then
        select p.last_done into v_next from commandbus.process as p where p.process_id = p_process_id;
    else
        select s.done_after into v_next from commandbus.process_step as s where s.process_id = p_process_id and s.step_no = p_after;
    end if;
    for _ in 1 .. p_limit loop
        select s.* into v_step from commandbus.process_step as s where s.process_id = p_process_id and s.step_no = v_next;
        exit when not found;
        return next v_step;
        v_next := v_step.done_after;
    end loop;
end;
$$;
