-- Let an action run that another operator proposed.
--
-- Called by TroubleshootingQueue.approve. Raises MS024 (detail: the id) if there is no such action, MS020 if it is not PROPOSED, or if who
-- approves has no name or proposed it. Locks the action row: of several at once, one approves.
create or replace function commandbus.approve_action(p_action_id uuid, p_operator text)
returns void
language plpgsql volatile
as $$
declare
    v_action commandbus.operator_action;
begin
    select a.* into v_action from commandbus.operator_action as a where a.action_id = p_action_id for update;
    if not found then
        raise exception 'there is no action %', p_action_id using errcode = 'MS024', detail = p_action_id::text;
    elsif v_action.state <> 'PROPOSED' then
        raise exception 'action % is %, and waits for nobody''s approval', p_action_id, v_action.state using errcode = 'MS020';
    elsif coalesce(btrim(p_operator), '') = '' or lower(btrim(p_operator)) = lower(btrim(v_action.operator)) then
        raise exception 'action % was proposed by %: somebody else must approve it', p_action_id, v_action.operator
            using errcode = 'MS020';
    end if;
    update commandbus.operator_action as a
    set state = case when a.total = 0 then 'DONE' else 'RUNNING' end, approved_by = p_operator
    where a.action_id = p_action_id;
end;
$$;
