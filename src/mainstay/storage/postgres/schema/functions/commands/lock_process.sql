-- A process, by its id or by that of a step's command, held until the transaction ends.
--
-- Called by the handlers of replies, deadlines and cancellations before they ask what comes next; process_standing afterwards, which sees what
-- whoever held the process before has written. No row if there is none.
-- Locks: the process's row. It comes before the queue row and the command row of what moves the process; who holds those waits for no process.
create or replace function commandbus.lock_process(p_process_id uuid, p_command_id uuid)
returns setof commandbus.process
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
begin
    return query
        select p.* from commandbus.process as p
        where p.process_id = coalesce(
            p_process_id, (select s.process_id from commandbus.process_step as s where s.command_id = p_command_id))
        for no key update;
end;
$$;
