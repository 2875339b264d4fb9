-- Carry out the next part of an action that is RUNNING: up to p_limit of its commands, all of one domain.
--
-- Called again and again, a transaction each, by whoever carries the action out; it returns no row when nothing is left to do, or the
-- action is not running. With a rate the commands are deferred, one after the other. Raises MS024 (detail: the id) if there is no such action.
-- Locks: the action row, which only operators' functions lock, and always first; then as act and cancel_pending. Two processes
-- that carry out one action take turns. A crash before COMMIT leaves the part undone, and `position` says so.
create or replace function commandbus.run_action(p_action_id uuid, p_limit integer)
returns table (domain text, command_id uuid, applied boolean, status text)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_action commandbus.operator_action;
    v_domain text;
    v_ids uuid[];
    v_due_at timestamptz[];
    v_first timestamptz;
    v_done uuid[];
    v_applied bigint;
begin
    select a.* into v_action from commandbus.operator_action as a where a.action_id = p_action_id for update;
    if not found then
        raise exception 'there is no action %', p_action_id using errcode = 'MS024', detail = p_action_id::text;
    elsif v_action.state <> 'RUNNING' then
        return;
    end if;
    select i.domain into v_domain from commandbus.operator_item as i
    where i.action_id = p_action_id and i.position = v_action.position + 1;
    select array_agg(i.command_id order by i.position) into v_ids
    from commandbus.operator_item as i
    where i.action_id = p_action_id and i.position > v_action.position and i.position <= v_action.position + p_limit
      and i.domain = v_domain;
    if v_action.rate is not null and v_action.action = 'RETRY' then
        v_first := greatest(clock_timestamp(), v_action.last_due_at + make_interval(secs => 1 / v_action.rate));
        select array_agg(v_first + make_interval(secs => (n - 1) / v_action.rate) order by n) into v_due_at
        from generate_series(1, cardinality(v_ids)) as n;
    end if;

    return query
        with done as materialized (
            select a.command_id, a.applied, a.status, a.lease_no, a.before
            from commandbus.act(v_domain, v_ids, v_action.request, v_due_at) as a
            where v_action.action <> 'CANCEL_BATCH'
            union all
            select a.command_id, a.applied, a.status, null, null
            from commandbus.cancel_pending(v_domain, v_ids, v_action.request) as a
            where v_action.action = 'CANCEL_BATCH'
        ), noted as (
            update commandbus.operator_item as i
            set state = case when d.applied then 'APPLIED' else 'REFUSED' end, lease_no = d.lease_no, before = d.before
            from done as d
            where i.action_id = p_action_id and i.position > v_action.position
              and i.position <= v_action.position + p_limit and i.command_id = d.command_id and i.domain = v_domain
        )
        select v_domain, d.command_id, d.applied, d.status from done as d;
    select count(*) into v_applied from commandbus.operator_item as i
    where i.action_id = p_action_id and i.position > v_action.position
      and i.position <= v_action.position + cardinality(v_ids) and i.state = 'APPLIED';
    update commandbus.operator_action as a
    set position = a.position + cardinality(v_ids), applied = a.applied + v_applied,
        refused = a.refused + cardinality(v_ids) - v_applied, last_due_at = coalesce(v_due_at[cardinality(v_ids)], a.last_due_at),
        state = case when a.position + cardinality(v_ids) >= a.total then 'DONE' else 'RUNNING' end,
        ended_at = case when a.position + cardinality(v_ids) >= a.total then clock_timestamp() end
    where a.action_id = p_action_id;
end;
$$;
