-- Change commands in the troubleshooting queue as an operator decided: RETRY, CANCEL or COMPLETE.
--
-- Called by decide and run_action, which write down who decided what. p_request is {action, operator, reason, action_id, data, result, base, diff}.
-- Commands that are not in the troubleshooting queue are left alone and reported with their status, and so are those whose
-- payload is not `base` any more, if that is given; of several operators acting on one command at once, the first to lock it is obeyed.
-- RETRY starts over: attempts 0, errors cleared, payload replaced by `data` if given, a new message in the queue, or, with p_due_at
-- (a time for each of p_command_ids), deferred until then; a command with a key gets in line under its old number, first at once if it is
-- still the head, else before all that were sent after it. `before` holds what it overwrote, and lease_no what the command has now.
-- Locks: rows of commands that wait here, in the order of ids; they have no queue or deferred row. Others are never locked: receive
-- locks commands in the order of their messages, and would deadlock with us.
create or replace function commandbus.act(p_domain text, p_command_ids uuid[], p_request jsonb, p_due_at timestamptz[])
returns table (command_id uuid, applied boolean, status text, msg_id bigint, lease_no bigint, before jsonb)
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
    v_action text := p_request ->> 'action';
    v_reason text := p_request ->> 'reason';
    v_data jsonb := p_request -> 'data';
    v_ids uuid[];
    v_befores jsonb[];
    v_due_at timestamptz[];
    v_done uuid[];
    v_lease_nos bigint[];
    v_msg_ids bigint[];
    v_ready uuid[];
    v_keyed uuid[];
    v_to_reply uuid[];
begin
    if v_action is null or v_action not in ('RETRY', 'CANCEL', 'COMPLETE') then
        raise exception 'unknown action "%"', v_action using errcode = '22023';
    end if;
    select array_agg(l.command_id), array_agg(l.before), array_agg(l.due_at) into v_ids, v_befores, v_due_at
    from (
        select c.command_id, given.due_at, case when v_action = 'RETRY' then jsonb_strip_nulls(jsonb_build_object(
            'attempts', c.attempts, 'error_type', c.error_type, 'error_code', c.error_code, 'error_message', c.error_message,
            'since', c.updated_at)) || case when v_data is null then '{}' else jsonb_build_object('data', c.data) end
            end as before
        from (
            select distinct on (t.id) t.id, t.due_at from unnest(p_command_ids, p_due_at) as t(id, due_at) order by t.id
        ) as given
        join commandbus.command as c on c.command_id = any (array[given.id]) and c.domain || '' = p_domain
        where c.status = 'IN_TROUBLESHOOTING_QUEUE'
          and (p_request -> 'base' is null or c.data = p_request -> 'base')
        order by c.command_id
        for update of c
    ) as l;

    with chosen as materialized (
        select t.id, t.due_at from unnest(v_ids, v_due_at) as t(id, due_at) order by t.id
    ), changed as (
        update commandbus.command as c
        set status = case v_action when 'RETRY' then 'PENDING' when 'CANCEL' then 'CANCELED' else 'COMPLETED' end,
            lease_no = c.lease_no + 1,
            attempts = case when v_action = 'RETRY' then 0 else c.attempts end,
            due_at = case when v_action = 'RETRY' then chosen.due_at end,
            data = case when v_action = 'RETRY' then coalesce(v_data, c.data) else c.data end,
            result = case when v_action = 'COMPLETE' then p_request -> 'result' else c.result end,
            error_type = case when v_action <> 'RETRY' then c.error_type end,
            error_code = case v_action when 'RETRY' then null when 'CANCEL' then 'CANCELED' else c.error_code end,
            error_message = case v_action when 'RETRY' then null when 'CANCEL' then v_reason else c.error_message end,
            updated_at = v_now
        from chosen
        where c.command_id = any (array[chosen.id]) and c.domain || '' = p_domain
        returning c.command_id, c.subject_no, c.due_at, c.lease_no, c.batch_id, c.reply_to, c.key
    ), unlisted as (
        delete from commandbus.troubleshooting as t using chosen
        where t.command_id = any (array[chosen.id]) and t.domain || '' = p_domain
    ), put_off as (
        insert into commandbus.deferred (command_id, domain, due_at)
        select ch.command_id, p_domain, ch.due_at from changed as ch where ch.due_at is not null
    ), audited as (
        insert into commandbus.audit (subject_no, event_type, ts, details)
        select ch.subject_no, 'OPERATOR_' || v_action, v_now, jsonb_strip_nulls(jsonb_build_object(
            'operator', p_request -> 'operator', 'reason', v_reason, 'action_id', p_request -> 'action_id',
            'result', p_request -> 'result', 'due_at', ch.due_at,
            'edited', case when v_data is not null then true end))
            || case when p_request -> 'diff' is null then '{}' else jsonb_build_object('diff', p_request -> 'diff') end
        from changed as ch
        order by ch.command_id
    ), counted as (
        insert into commandbus.batch_delta (domain, batch_id, troubleshooting, canceled, completed)
        select
            p_domain, ch.batch_id, -count(*),
            case when v_action = 'CANCEL' then count(*) else 0 end,
            case when v_action = 'COMPLETE' then count(*) else 0 end
        from changed as ch where ch.batch_id is not null group by ch.batch_id
    )
    select
        array_agg(ch.command_id), array_agg(ch.lease_no), array_agg(ch.command_id) filter (where ch.reply_to is not null),
        array_agg(ch.command_id) filter (where ch.key is not null)
    into v_done, v_lease_nos, v_to_reply, v_keyed
    from changed as ch;

    if v_done is not null and v_action = 'RETRY' and p_due_at is null then
        select array_agg(r.command_id), array_agg(r.msg_id) into v_ready, v_msg_ids
        from commandbus.make_ready(p_domain, v_done, false) as r;
    elsif v_action <> 'RETRY' then
        if v_to_reply is not null then
            perform commandbus.reply(p_domain, v_to_reply);
        end if;
        if v_keyed is not null then
            perform commandbus.release_keys(p_domain, v_keyed);
        end if;
    end if;
    return query
        select t.id, true, 'IN_TROUBLESHOOTING_QUEUE', v_msg_ids[array_position(v_ready, t.id)],
            v_lease_nos[array_position(v_done, t.id)], t.before
        from unnest(v_ids, v_befores) as t(id, before)
        union all
        select c.command_id, false, c.status, null, null, null
        from (select distinct t.id from unnest(p_command_ids) as t(id)) as given
        join commandbus.command as c on c.command_id = any (array[given.id]) and c.domain || '' = p_domain
        where given.id <> all (coalesce(v_ids, '{}'));
end;
$$;
