-- What became of an action's items. One that was refused may have none: a decision on named commands notes only those that it changed.
--
-- Called by find_action_faults and repair_action. Locks nothing.
create or replace function commandbus.count_items(p_action_id uuid)
returns table (items bigint, applied bigint, undone bigint, beyond bigint)
language sql stable
as $$
    select count(*),
           count(*) filter (where i.state in ('APPLIED', 'UNDONE')),
           count(*) filter (where i.state = 'UNDONE'),
           count(*) filter (where i.state <> 'WAITING' and i.position > a.position)
    from commandbus.operator_item as i
    join commandbus.operator_action as a on a.action_id = i.action_id
    where i.action_id = p_action_id;
$$;
