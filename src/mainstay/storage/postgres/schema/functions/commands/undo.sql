-- Take back a retry: commands that nobody received since go back to the troubleshooting queue as they were.
--
-- Called by TroubleshootingQueue.undo and stop. Takes up to p_limit items after position p_after that were applied, all of one
-- domain; with p_deferred only those that are not due yet. A command is taken back while it is PENDING and has the lease_no that the retry gave it: every receive and
-- give-back draws another. A command with a key stays the head of it, if it was. Returns each item that it looked at; undone is false where it was too late. Raises MS024 (detail: the id) if
-- there is no such action, MS020 if it is no retry: a sender may have its reply.
-- Locks: the action row first, then as hold_waiting does, then command rows in the order of ids.
create or replace function commandbus.undo(
    p_action_id uuid, p_after bigint, p_limit integer, p_deferred boolean, p_operator text, p_reason text)
returns table ("position" bigint, domain text, command_id uuid, undone boolean, status text)
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_timestamp();
    v_action text;
    v_domain text;
    v_positions bigint[];
    v_ids uuid[];
    v_lease_nos bigint[];
    v_befores jsonb[];
    v_held uuid[];
    v_back uuid[];
    v_msg_ids bigint[];
begin
    select a.action into v_action from commandbus.operator_action as a where a.action_id = p_action_id for update;
    if not found then
        raise exception 'there is no action %', p_action_id using errcode = 'MS024', detail = p_action_id::text;
    elsif v_action <> 'RETRY' then
        raise exception 'only a retry can be taken back: a % is final, senders may have their replies', v_action using errcode = 'MS020';
    end if;
    select i.domain into v_domain from commandbus.operator_item as i
    where i.action_id = p_action_id and i.position > p_after and i.state = 'APPLIED' order by i.position limit 1;
    select array_agg(n.position), array_agg(n.command_id), array_agg(n.lease_no), array_agg(n.before)
    into v_positions, v_ids, v_lease_nos, v_befores
    from (
        select i.* from commandbus.operator_item as i
        where i.action_id = p_action_id and i.position > p_after and i.state = 'APPLIED' and i.domain = v_domain
        order by i.position limit p_limit
    ) as n;
    if v_ids is null then
        return;
    end if;
    v_held := commandbus.hold_waiting(v_domain, v_ids);
    select array_agg(l.command_id), array_agg(l.msg_id) into v_back, v_msg_ids
    from (
        select c.command_id, c.msg_id
        from (select t.id, t.lease_no from unnest(v_ids, v_lease_nos) as t(id, lease_no) order by t.id) as given
        join commandbus.command as c on c.command_id = any (array[given.id]) and c.domain || '' = v_domain
        where c.status = 'PENDING' and c.lease_no = given.lease_no and given.id = any (v_held)
          and (not p_deferred or c.msg_id is null and c.due_at > v_now)
        order by c.command_id
        for update of c
    ) as l;
    if v_back is not null then
        perform commandbus.take_out(v_domain, v_back, v_msg_ids);
        with changed as (
            update commandbus.command as c
            set status = 'IN_TROUBLESHOOTING_QUEUE', msg_id = null, due_at = null, lease_no = c.lease_no + 1,
                attempts = (was.before ->> 'attempts')::integer, error_type = was.before ->> 'error_type',
                error_code = was.before ->> 'error_code', error_message = was.before ->> 'error_message',
                data = coalesce(was.before -> 'data', c.data), updated_at = (was.before ->> 'since')::timestamptz
            from (
                select t.id, t.before from unnest(v_ids, v_befores) as t(id, before) where t.id = any (v_back) order by t.id
            ) as was
            where c.command_id = any (array[was.id]) and c.domain || '' = v_domain
            returning c.command_id, c.subject_no, c.batch_id
        ), audited as (
            insert into commandbus.audit (subject_no, event_type, ts, details)
            select ch.subject_no, 'OPERATOR_UNDO', v_now, jsonb_strip_nulls(jsonb_build_object(
                'operator', p_operator, 'reason', p_reason, 'action_id', p_action_id))
            from changed as ch order by ch.command_id
        ), noted as (
            update commandbus.operator_item as i set state = 'UNDONE'
            from unnest(v_positions, v_ids) as t(n, id)
            where i.action_id = p_action_id and i.position = t.n and t.id = any (v_back)
        )
        insert into commandbus.batch_delta (domain, batch_id, troubleshooting)
        select v_domain, ch.batch_id, count(*) from changed as ch where ch.batch_id is not null group by ch.batch_id;
        perform commandbus.troubleshoot(v_domain, v_back);
        update commandbus.operator_action as a set undone = a.undone + cardinality(v_back) where a.action_id = p_action_id;
    end if;
    return query
        select t.n, v_domain, t.id, t.id = any (coalesce(v_back, '{}')), c.status
        from unnest(v_positions, v_ids) as t(n, id)
        join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = v_domain
        order by t.n;
end;
$$;
