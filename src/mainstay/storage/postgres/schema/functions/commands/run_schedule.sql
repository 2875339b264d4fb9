-- Send a schedule's command now, whether it is paused or due or not.
--
-- Called by operators. Its due times stay as they are. Locks as send does. Returns what send returns; found is false if there is no such
-- schedule. A known id is refused, and so is a command whose unique key is held. What was sent stands in the operators' trail.
create or replace function commandbus.run_schedule(p_name text, p_command_id uuid, p_headers jsonb)
returns table (found boolean, msg_id bigint, refusal text, holder_id uuid)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_command jsonb;
    v_answer record;
begin
    select s.command - 'on_conflict' || jsonb_build_object(
        'command_id', p_command_id, 'correlation_id', p_command_id,
        'headers', coalesce(s.command -> 'headers', '{}') || p_headers || jsonb_build_object('due_at', clock_timestamp()))
    into v_command
    from commandbus.schedule as s where s.name = p_name;
    if v_command is null then
        return query select false, null::bigint, null::text, null::uuid;
        return;
    end if;
    select a.* into v_answer from commandbus.send(jsonb_build_array(v_command)) as a;
    if not found then
        return query select true, null::bigint, 'DUPLICATE', null::uuid;
        return;
    elsif v_answer.refusal is null then
        perform commandbus.note_deed('SCHEDULE', p_name, 'FIRED', jsonb_build_object(
            'domain', v_command -> 'domain', 'command_id', p_command_id));
    end if;
    return query select true, v_answer.msg_id, v_answer.refusal, v_answer.holder_id;
end;
$$;
