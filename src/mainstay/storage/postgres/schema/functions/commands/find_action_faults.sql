-- What must never be of operators' actions, and of what only batches know: one row for each violation found.
--
-- Called by fsck with find_faults, in the same snapshot. Locks nothing. Reads all actions, items and batches.
create or replace function commandbus.find_action_faults()
returns table (invariant text, domain text, command_id uuid, details jsonb)
language plpgsql stable
as $$
#variable_conflict use_column
begin
    return query
        select 'the counts of an action recount', null::text, null::uuid,
               jsonb_build_object('action_id', a.action_id, 'total', a.total, 'position', a.position,
                                  'applied', a.applied, 'refused', a.refused, 'undone', a.undone, 'counted', to_jsonb(n))
        from commandbus.operator_action as a
        cross join lateral commandbus.count_items(a.action_id) as n
        where a.pruned_at is null
          and (n.items not between a.total - a.refused and a.total or n.beyond > 0
               or a.position <> a.applied + a.refused or (a.applied, a.undone) <> (n.applied, n.undone));

    return query
        select 'an action that is done came to its last item, and says when', null::text, null::uuid,
               jsonb_build_object('action_id', a.action_id, 'state', a.state, 'total', a.total, 'position', a.position,
                                  'ended_at', a.ended_at)
        from commandbus.operator_action as a
        where (a.state in ('DONE', 'STOPPED')) <> (a.ended_at is not null)
           or a.position > a.total
           or (a.state = 'DONE' and a.position < a.total)
           or (a.state = 'RUNNING' and a.position >= a.total);

    return query
        select 'items belong to an action', null::text, null::uuid, jsonb_build_object('action_id', i.action_id, 'items', count(*))
        from commandbus.operator_item as i
        where not exists (select from commandbus.operator_action as a where a.action_id = i.action_id)
        group by i.action_id;

    return query
        select 'deltas and parts belong to a batch', w.domain, null::uuid, jsonb_build_object('batch_id', w.batch_id)
        from (
            select d.domain, d.batch_id from commandbus.batch_delta as d
            union
            select b.domain, b.parent_id from commandbus.batch as b where b.parent_id is not null
        ) as w
        where not exists (select from commandbus.batch as b where b.batch_id = w.batch_id and b.domain = w.domain);

    return query
        select 'a batch that can end has ended, or is looked at again', b.domain, null::uuid,
               jsonb_build_object('batch_id', b.batch_id, 'total', b.total_count)
        from commandbus.batch as b
        where b.completed_at is null and b.sealed
          and b.completed_count + b.failed_count + b.canceled_count + b.troubleshooting_count >= b.total_count
          and not exists (select from commandbus.batch_delta as d where d.domain = b.domain and d.batch_id = b.batch_id)
          and not exists (
              select from commandbus.batch as part
              where part.domain = b.domain and part.parent_id = b.batch_id and part.completed_at is null);
end;
$$;
