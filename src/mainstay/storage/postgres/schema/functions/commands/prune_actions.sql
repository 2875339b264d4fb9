-- Take from an operator's action that ended long ago what is no longer needed: its items, with what they need to be taken back. Who
-- decided what, and how it went, stays as long as audit trails do; then the action is deleted.
--
-- Called by Pruner and `mainstay prune`, again and again, until it returns 0 and 0. Deletes up to p_limit items of the action that was
-- begun first, and, when none is left, notes that or deletes the action.
--
-- Locks: the action's row, skipping one that somebody carries out or takes back; its items are never locked without it. After a
-- crash the next call goes on.
create or replace function commandbus.prune_actions(p_ended_before timestamptz, p_audit_before timestamptz, p_limit integer)
returns table (items integer, actions integer)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
declare
    v_action commandbus.operator_action;
begin
    items := 0;
    actions := 0;
    select a.* into v_action from commandbus.operator_action as a
    where a.created_at < p_ended_before and a.ended_at < p_ended_before and coalesce(a.last_due_at, a.ended_at) < p_ended_before
      and (a.pruned_at is null or a.ended_at < p_audit_before or exists (
          select from commandbus.operator_item as i where i.action_id = a.action_id))
    order by a.created_at
    limit 1
    for update skip locked;
    if found then
        delete from commandbus.operator_item as i
        where i.action_id = v_action.action_id and i.position = any (array(
            select n.position from commandbus.operator_item as n
            where n.action_id = v_action.action_id order by n.position limit p_limit));
        get diagnostics items = row_count;
        if items = p_limit or v_action.ended_at >= p_audit_before then
            update commandbus.operator_action as a
            set pruned_at = coalesce(a.pruned_at, clock_timestamp()), request = '{}'
            where a.action_id = v_action.action_id;
        else
            delete from commandbus.operator_action as a where a.action_id = v_action.action_id;
        end if;
        actions := case when items < p_limit then 1 else 0 end;
    end if;
    return next;
end;
$$;
