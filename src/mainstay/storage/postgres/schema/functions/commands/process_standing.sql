-- What a move needs to know of a process besides its row: the step that it is about, by its command or its number, the last step that was
-- sent, and whether the process was told of an event before. One row, whatever there is.
--
-- Called after lock_process, so it sees what whoever held the process before has written. Reads three rows, however many steps and events
-- there are. Locks nothing.
create or replace function commandbus.process_standing(p_process_id uuid, p_command_id uuid, p_step_no integer, p_event_id uuid)
returns table (last_no integer, last_name text, was_told boolean, step commandbus.process_step)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
begin
    last_no := 0;
    select s.step_no, s.name into last_no, last_name
    from commandbus.process_step as s where s.process_id = p_process_id order by s.step_no desc limit 1;
    last_no := coalesce(last_no, 0);
    was_told := p_event_id is not null and exists (
        select from commandbus.process_event as e where e.process_id = p_process_id and e.event_id = p_event_id);
    if p_command_id is not null then
        select s.* into step from commandbus.process_step as s where s.command_id = p_command_id and s.process_id = p_process_id;
    elsif p_step_no is not null then
        select s.* into step from commandbus.process_step as s where s.process_id = p_process_id and s.step_no = p_step_no;
    end if;
    return next;
end;
$$;
