-- Stop an action: what it has not come to is left alone. A proposal is thereby refused.
--
-- Called by TroubleshootingQueue.stop, which then takes back what a retry with a rate deferred. Does nothing to an action that has ended. Raises
-- MS024 (detail: the id) if there is no such action. Locks the action row, so it waits for the part under way.
create or replace function commandbus.stop_action(p_action_id uuid, p_operator text)
returns void
language plpgsql volatile
as $$
begin
    update commandbus.operator_action as a
    set state = 'STOPPED', stopped_by = p_operator, ended_at = clock_timestamp()
    where a.action_id = p_action_id
      and (a.state in ('PROPOSED', 'RUNNING') or a.state = 'DONE' and a.last_due_at > clock_timestamp());
    if not found and not exists (select from commandbus.operator_action as a where a.action_id = p_action_id) then
        raise exception 'there is no action %', p_action_id using errcode = 'MS024', detail = p_action_id::text;
    end if;
end;
$$;
