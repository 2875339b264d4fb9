-- Answer a step whose reply was lost, so that its process goes on.
--
-- Called by repair. What the command's row says is sent once more, as a command of type Reply under an id of its own; a process
-- takes the answer to a step once, so a reply that comes after all changes nothing. Returns what was done, in words; null if the step is
-- answered, its command has not ended or is gone, its reply is on its way, or was sent again before. Raises MS001 (detail: the
-- queue) if the domain in which the process takes replies has no queue.
-- Locks: the process's row, so that nobody takes a reply meanwhile; then as send.
create or replace function commandbus.repair_step(p_process_id uuid, p_step_no integer)
returns text
language plpgsql volatile
as $$
declare
    v_process commandbus.process;
    v_command commandbus.command;
    v_ids uuid[];
    v_answer uuid;
begin
    select p.* into v_process from commandbus.process as p where p.process_id = p_process_id for no key update;
    select c.* into v_command
    from commandbus.process_step as s
    join commandbus.command as c on c.command_id = s.command_id and c.domain = s.domain
    where s.process_id = p_process_id and s.step_no = p_step_no and s.status = 'SENT'
      and c.status in ('COMPLETED', 'FAILED', 'CANCELED');
    if not found then
        return null;
    end if;
    v_ids := commandbus.reply_ids(v_command.command_id);
    if exists (
        select from commandbus.command as a
        where a.command_id = any (v_ids) and a.domain = v_process.reply_domain and a.status not in ('COMPLETED', 'FAILED', 'CANCELED'))
    then
        return null;
    end if;
    select r.id into v_answer from unnest(v_ids) with ordinality as r(id, place)
    where not exists (select from commandbus.command as a where a.command_id = r.id and a.domain = v_process.reply_domain)
    order by r.place
    limit 1;
    if v_answer is null then
        return null;
    end if;
    perform commandbus.queue_table(v_process.reply_domain || '__commands');
    perform commandbus.send(jsonb_build_array(jsonb_build_object(
        'domain', v_process.reply_domain,
        'command_type', 'Reply',
        'command_id', v_answer,
        'data', commandbus.reply_message(v_command),
        'correlation_id', v_command.correlation_id,
        'max_attempts', 10,
        'headers', commandbus.headers_after(v_command))));
    return 'its reply is sent to the process again';
end;
$$;
