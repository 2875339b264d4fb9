-- Carry out an operator's decision on commands of one domain in one transaction, and write it down as an action.
--
-- Called by TroubleshootingQueue for what is small enough to be done at once. p_request is what act takes. Returns what act
-- returns, and the action's id. Raises MS021 or MS020 as check_decision does, and MS022 (detail: how many) if a second operator would have to approve.
-- Locks as act does.
create or replace function commandbus.decide(p_domain text, p_command_ids uuid[], p_request jsonb)
returns table (command_id uuid, applied boolean, status text, msg_id bigint, action_id uuid)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_action_id uuid := gen_random_uuid();
    v_applied bigint;
begin
    if commandbus.check_decision(p_request ->> 'operator', p_request ->> 'reason', cardinality(p_command_ids)) then
        raise exception 'a decision on % commands needs the approval of a second operator', cardinality(p_command_ids)
            using errcode = 'MS022', detail = cardinality(p_command_ids)::text;
    end if;
    return query
        with done as materialized (
            select a.*
            from commandbus.act(
                p_domain, p_command_ids, p_request || jsonb_build_object('action_id', v_action_id), null) as a
        ), kept as (
            insert into commandbus.operator_item (action_id, position, domain, command_id, state, lease_no, before)
            select v_action_id, row_number() over (order by d.command_id), p_domain, d.command_id, 'APPLIED', d.lease_no, d.before
            from done as d where d.applied
        )
        select d.command_id, d.applied, d.status, d.msg_id, case when d.applied then v_action_id end from done as d;
    select count(*) into v_applied from commandbus.operator_item as i where i.action_id = v_action_id;
    if v_applied > 0 then
        insert into commandbus.operator_action (
            action_id, action, state, operator, reason, selection, request, total, position, applied, refused, ended_at)
        values (
            v_action_id, p_request ->> 'action', 'DONE', p_request ->> 'operator', p_request ->> 'reason',
            jsonb_build_object('domain', p_domain, 'command_ids', to_jsonb(p_command_ids)), p_request,
            cardinality(p_command_ids), cardinality(p_command_ids), v_applied, cardinality(p_command_ids) - v_applied, clock_timestamp());
    end if;
end;
$$;
