-- Cancel a command that waits: ready, deferred, parked, or for the turn of its key. With p_running also ask for the end of one in progress.
--
-- Called by CommandBus.cancel. Returns the status found; PENDING means that it was canceled, anything else that nothing was changed,
-- no row that there is no such command.
-- IN_PROGRESS with p_running says that the request was noted: the command's worker learns of it with its next renewal, or at once if it
-- listens, stops the handler and gives the command back, and complete ends it; if the worker is dead, the next receive does. A handler that
-- completes first has completed. Asking again changes nothing. If an operator does it, the audit trail says who, and the operators' trail, too.
-- Locks: the queue, deferred, keyed or parked row, then the command row, as receive, promote and promote_keys do. If the command moved between the two,
-- raises 40001 (serialization failure): the caller tries again.
create or replace function commandbus.cancel(p_domain text, p_command_id uuid, p_reason text, p_running boolean)
returns table (status text)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_command commandbus.command;
    v_seen bigint;
    v_key text;
    v_number bigint;
    v_is_held boolean := true;
    v_request jsonb := jsonb_build_object('reason', p_reason);
begin
    if commandbus.named_operator() is not null then
        v_request := v_request || jsonb_build_object('operator', commandbus.named_operator());
    end if;
    select c.msg_id, c.key, c.subject_no into v_seen, v_key, v_number from commandbus.command as c
    where c.command_id = p_command_id and c.domain = p_domain;
    if not found then
        return;
    end if;
    if v_seen is not null then
        execute format('select from %s where msg_id = $1 for update', commandbus.queue_table(p_domain || '__commands')) using v_seen;
    else
        perform from commandbus.deferred as d where d.command_id = p_command_id and d.domain = p_domain for update;
        if v_key is not null and not found then
            perform from commandbus.keyed as k where k.domain = p_domain and k.key = v_key and k.subject_no = v_number for update;
            v_is_held := found;
        end if;
        perform from commandbus.parked as p where p.command_id = p_command_id and p.domain = p_domain for update;
        v_is_held := v_is_held or found;
    end if;
    select c.* into v_command from commandbus.command as c
    where c.command_id = p_command_id and c.domain = p_domain
    for update;
    if v_command.status = 'IN_PROGRESS' and p_running then
        perform commandbus.ask_for_end(p_domain, array[p_command_id], v_request);
        if v_command.cancel_request is null and v_request ? 'operator' then
            perform commandbus.note_deed('COMMAND', p_domain || '/' || p_command_id, 'CANCEL_REQUESTED', '{}', null, p_reason);
        end if;
    end if;
    if v_command.status <> 'PENDING' then
        return query select v_command.status;
        return;
    end if;
    if v_command.msg_id is distinct from v_seen or not v_is_held then
        raise exception 'command moved while it was being canceled' using errcode = '40001';
    end if;

    perform commandbus.call_off(p_domain, array[p_command_id], v_request);
    if v_request ? 'operator' then
        perform commandbus.note_deed('COMMAND', p_domain || '/' || p_command_id, 'CANCELED', '{}', null, p_reason);
    end if;
    return query select 'PENDING';
end;
$$;
