-- Write down a decision on a selection of commands, with exactly those that it is about; nothing is done to them yet.
--
-- Called by TroubleshootingQueue.begin and CommandBus.cancel_batch. p_selection is {domain, command_type, error_code, group_id, batch_id, command_ids}.
-- Takes from the troubleshooting queue, also commands named by their ids that are not in it (run_action refuses them and says so);
-- CANCEL_BATCH takes the commands of a batch that are PENDING. Returns the state: RUNNING, or PROPOSED if a second
-- operator must approve. Raises MS023 (detail: expected/found) if p_expect is given and another number was found: then nothing is
-- written. Else as check_decision.
-- Locks nothing. A crash before COMMIT leaves nothing; after it run_action, called by anybody, carries it out.
create or replace function commandbus.begin_action(
    p_action_id uuid, p_action text, p_selection jsonb, p_request jsonb, p_rate double precision, p_expect bigint)
returns text
language plpgsql volatile
as $$
declare
    v_ids uuid[];
    v_total bigint;
    v_state text := 'RUNNING';
begin
    if p_selection -> 'command_ids' is not null then
        v_ids := array(select (e.value #>> '{}')::uuid from jsonb_array_elements(p_selection -> 'command_ids') as e);
    end if;
    if p_action = 'CANCEL_BATCH' then
        insert into commandbus.operator_item (action_id, position, domain, command_id)
        select p_action_id, row_number() over (order by c.command_id), c.domain, c.command_id
        from commandbus.command as c
        where c.batch_id = (p_selection ->> 'batch_id')::uuid and c.domain = p_selection ->> 'domain'
          and (c.status = 'PENDING' or c.status = 'IN_PROGRESS' and (p_request -> 'running')::boolean);
    elsif v_ids is not null then
        insert into commandbus.operator_item (action_id, position, domain, command_id)
        select p_action_id, row_number() over (order by c.domain, c.command_id), c.domain, c.command_id
        from commandbus.command as c
        where c.command_id = any (v_ids) and (p_selection ->> 'domain' is null or c.domain = p_selection ->> 'domain');
    else
        insert into commandbus.operator_item (action_id, position, domain, command_id)
        select p_action_id, row_number() over (order by t.domain, t.since, t.command_id), t.domain, t.command_id
        from commandbus.select_troubled(
            p_selection ->> 'domain', p_selection ->> 'command_type', p_selection ->> 'error_code', p_selection ->> 'group_id',
            (p_selection ->> 'batch_id')::uuid, null) as t;
    end if;
    get diagnostics v_total = row_count;
    if v_total <> p_expect then
        raise exception 'expected % commands and found %: look again', p_expect, v_total
            using errcode = 'MS023', detail = p_expect || '/' || v_total;
    end if;
    if commandbus.check_decision(p_request ->> 'operator', p_request ->> 'reason', v_total) then
        v_state := 'PROPOSED';
    elsif v_total = 0 then
        v_state := 'DONE';
    end if;
    insert into commandbus.operator_action (
        action_id, action, state, operator, reason, selection, request, rate, total, ended_at)
    values (
        p_action_id, p_action, v_state, p_request ->> 'operator', p_request ->> 'reason', p_selection,
        p_request || jsonb_build_object('action', p_action, 'action_id', p_action_id), p_rate, v_total,
        case when v_state = 'DONE' then clock_timestamp() end);
    return v_state;
end;
$$;
