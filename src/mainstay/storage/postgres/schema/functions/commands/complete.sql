-- Write what became of received commands: any mix of outcomes, in one transaction.
--
-- Called by workers when they flush, and on a transactional handler's own connection, where it commits the handler's effects too.
-- p_outcomes is an array of {command_id, msg_id, lease_no, verb, result, error_type, error_code, error_message, details, delay
-- (seconds), exhausted, decision (as record_decisions takes it), position (of the last event that its handler appended)}. Returns for each command
-- APPLIED, REPEATED (this lease had finished it before: the answer to a flush
-- repeated after an unknown COMMIT) or STALE (another lease holds it; refused, and audited as STALE_REFUSED).
--
-- p_positions is for commit_group, which has locked the queue's rows before: the positions of the events that it appended, null for one that it did not. There an
-- outcome may say which event is the last that follows from it (last, from 1), and the version of its stream after it. A COMPLETE without a result gets that version and
-- the position of that event.
--
-- Fencing: an outcome counts only if its lease_no is the newest and the command is IN_PROGRESS.
-- Locks: queue rows in the order of msg_id, then command rows in the order of ids. A second worker that holds a newer lease waits for neither.
-- A crash before COMMIT leaves the commands leased; after it they are done, message gone, reply queued, audit written.
create or replace function commandbus.complete(p_domain text, p_outcomes jsonb, p_positions bigint[] default null)
returns table (command_id uuid, verdict text)
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
    v_table regclass := commandbus.queue_table(p_domain || '__commands');
    v_asked uuid[];
    v_asked_msg_ids bigint[];
    v_done uuid[];
    v_gone bigint[];
    v_returned bigint[];
    v_to_reply uuid[];
    v_retried uuid[];
    v_troubled uuid[];
    v_keyed uuid[];
    v_counted uuid[];
    v_called_off uuid[];
    v_decided uuid[];
    v_subject_nos bigint[];
    v_decisions jsonb[];
begin
    select array_agg(o.command_id), array_agg(o.msg_id) into v_asked, v_asked_msg_ids
    from jsonb_to_recordset(p_outcomes) as o(command_id uuid, msg_id bigint);
    if p_positions is null then
        execute format('select q.msg_id from %s as q where q.msg_id = any ($1) order by q.msg_id for update', v_table)
        using v_asked_msg_ids;
    end if;

    with given as materialized (
        select
            o.command_id, o.msg_id, o.lease_no, o.verb, o.error_type, o.error_code, o.error_message, o.details, o.delay, o.decision,
            case
                when p_positions is null or o.result is not null then o.result
                when o.last is null then jsonb_build_object('version', o.version)
                else jsonb_build_object('version', o.version, 'position', p_positions[o.last]) end as result,
            coalesce(o.position, p_positions[o.last]) as position
        from jsonb_to_recordset(p_outcomes) as o(
            command_id uuid, msg_id bigint, lease_no bigint, verb text, result jsonb, error_type text, error_code text,
            error_message text, details jsonb, delay double precision, decision jsonb, position bigint, last integer, version integer)
        order by o.command_id
    ), done as (
        update commandbus.command as c
        set status = case g.verb
                when 'COMPLETE' then 'COMPLETED'
                when 'FAIL' then 'FAILED'
                when 'TROUBLESHOOT' then 'IN_TROUBLESHOOTING_QUEUE'
                else 'PENDING' end,
            attempts = case when g.verb = 'GIVE_BACK' then c.attempts - 1 else c.attempts end,
            lease_no = case when g.verb = 'GIVE_BACK' then c.lease_no + 1 else c.lease_no end,
            msg_id = case when g.verb = 'GIVE_BACK' then c.msg_id end,
            result = case when g.verb = 'COMPLETE' then g.result else c.result end,
            error_type = case when g.verb in ('COMPLETE', 'GIVE_BACK') then c.error_type else g.error_type end,
            error_code = case when g.verb in ('COMPLETE', 'GIVE_BACK') then c.error_code else g.error_code end,
            error_message = case when g.verb in ('COMPLETE', 'GIVE_BACK') then c.error_message else g.error_message end,
            due_at = case when g.verb = 'RETRY' then v_now + make_interval(secs => coalesce(g.delay, 0)) end,
            position = greatest(c.position, g.position),
            updated_at = v_now
        from given as g
        where c.command_id = any (array[g.command_id]) and c.domain || '' = p_domain and c.lease_no = g.lease_no and c.status = 'IN_PROGRESS'
        returning c.command_id, c.subject_no, c.batch_id, c.reply_to, c.key, c.cancel_request, c.attempts, g.msg_id, g.verb, g.error_type, g.error_code,
            g.error_message, g.details, case when g.verb in ('COMPLETE', 'FAIL') then g.decision end as decision
    ), audited as (  -- what follows from a failure is added below: most commands do not fail
        insert into commandbus.audit (subject_no, event_type, ts, details)
        select
            d.subject_no,
            case d.verb
                when 'COMPLETE' then 'COMPLETED'
                when 'GIVE_BACK' then 'GIVEN_BACK'
                when 'FAIL' then 'BUSINESS_RULE_FAILED'
                else 'FAILED' end,
            v_now,
            case
                when d.verb in ('COMPLETE', 'GIVE_BACK') then d.details
                when d.verb = 'FAIL' then jsonb_build_object(
                    'error_code', d.error_code, 'error_message', d.error_message, 'details', d.details)
                else jsonb_build_object(
                    'error_type', d.error_type, 'error_code', d.error_code, 'error_message', d.error_message,
                    'attempt', d.attempts, 'details', d.details) end
        from done as d
    )
    select
        array_agg(d.command_id),
        array_agg(d.msg_id) filter (where d.verb <> 'GIVE_BACK'),
        array_agg(d.msg_id) filter (where d.verb = 'GIVE_BACK'),
        array_agg(d.command_id) filter (where d.reply_to is not null and d.verb in ('COMPLETE', 'FAIL')),
        array_agg(d.command_id) filter (where d.verb = 'RETRY'),
        array_agg(d.command_id) filter (where d.verb = 'TROUBLESHOOT'),
        array_agg(d.command_id) filter (where d.key is not null and d.verb in ('COMPLETE', 'FAIL')),
        array_agg(d.command_id) filter (where d.batch_id is not null and d.verb in ('COMPLETE', 'FAIL', 'TROUBLESHOOT')),
        array_agg(d.command_id) filter (where d.cancel_request is not null and d.verb not in ('COMPLETE', 'FAIL')),
        array_agg(d.command_id) filter (where d.decision is not null),
        array_agg(d.subject_no) filter (where d.decision is not null),
        array_agg(d.decision) filter (where d.decision is not null)
    into v_done, v_gone, v_returned, v_to_reply, v_retried, v_troubled, v_keyed, v_counted, v_called_off, v_decided, v_subject_nos, v_decisions
    from done as d;

    if v_done is not null then
        if v_gone is not null then
            execute format('delete from %s where msg_id = any ($1)', v_table) using v_gone;
        end if;
        if v_returned is not null then
            execute format('update %s set vt = clock_timestamp(), read_ct = 0 where msg_id = any ($1)', v_table) using v_returned;
        end if;
        if v_to_reply is not null then
            perform commandbus.reply(p_domain, v_to_reply);
        end if;
        if v_retried is not null or v_troubled is not null then
            perform commandbus.put_aside(p_domain, p_outcomes, v_retried, v_troubled);
        end if;
        if v_counted is not null then
            insert into commandbus.batch_delta (domain, batch_id, completed, failed, troubleshooting)
            select
                p_domain, c.batch_id,
                count(*) filter (where c.status = 'COMPLETED'),
                count(*) filter (where c.status = 'FAILED'),
                count(*) filter (where c.status = 'IN_TROUBLESHOOTING_QUEUE')
            from unnest(v_counted) as t(id)
            join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain
            where c.status <> 'PENDING'  -- a breaker holds it
            group by c.batch_id;
        end if;
        if v_decided is not null then
            perform commandbus.record_decisions(p_domain, v_now, v_subject_nos, v_decided, v_decisions);
        end if;
        if v_keyed is not null then
            perform commandbus.release_keys(p_domain, v_keyed);
        end if;
        if v_called_off is not null then
            perform commandbus.call_off(p_domain, v_called_off, null);
        end if;
    end if;

    if cardinality(v_done) = cardinality(v_asked) then
        return query select t.id, 'APPLIED' from unnest(v_asked) as t(id);
        return;
    end if;
    return query
        with refused as materialized (
            select o.command_id, c.subject_no, c.command_id is not null as known, coalesce(c.lease_no = o.lease_no, false) as repeated, o.verb
            from jsonb_to_recordset(p_outcomes) as o(command_id uuid, lease_no bigint, verb text)
            left join commandbus.command as c on c.command_id = any (array[o.command_id]) and c.domain || '' = p_domain
            where o.command_id <> all (coalesce(v_done, '{}'))
        ), audited as (
            insert into commandbus.audit (subject_no, event_type, ts, details)
            select r.subject_no, 'STALE_REFUSED', v_now, jsonb_build_object('verb', r.verb)
            from refused as r where r.known and not r.repeated
        )
        select r.command_id, case when r.repeated then 'REPEATED' else 'STALE' end from refused as r
        union all
        select t.id, 'APPLIED' from unnest(v_done) as t(id);
end;
$$;
