-- Make an action's counts what its items say, or delete the items of no action.
--
-- Called by repair. How far the action is, and over how many commands, is not touched: that says what is still to be done. Returns what was
-- done, in words; null if nothing was wrong that can be counted anew: an action that has not an item for each command is left as it is.
-- Locks: the action's row, so nobody carries it out meanwhile.
create or replace function commandbus.repair_action(p_action_id uuid)
returns text
language plpgsql volatile
as $$
begin
    perform from commandbus.operator_action as a where a.action_id = p_action_id for update;
    if not found then
        delete from commandbus.operator_item as i where i.action_id = p_action_id;
        return case when found then 'the items of no action are deleted' end;
    end if;
    update commandbus.operator_action as a
    set applied = n.applied, refused = a.position - n.applied, undone = n.undone
    from commandbus.count_items(p_action_id) as n
    where a.action_id = p_action_id and a.pruned_at is null and n.items = a.total
      and (a.applied, a.refused, a.undone) <> (n.applied, a.position - n.applied, n.undone);
    return case when found then 'its counts are set to those of its items' end;
end;
$$;
