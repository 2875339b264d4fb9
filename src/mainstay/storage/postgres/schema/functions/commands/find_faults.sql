-- What must never be: one row for each violation found.
--
-- Called by fsck in one REPEATABLE READ transaction, so that every count comes from the same snapshot. Locks nothing. Reads everything.
create or replace function commandbus.find_faults()
returns table (invariant text, domain text, command_id uuid, details jsonb)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    v_queue text;
    v_domain text;
begin
    for v_queue in select m.queue_name from pgmq.meta as m where m.queue_name like '%\_\_commands' order by m.queue_name loop
        v_domain := left(v_queue, -length('__commands'));
        return query execute format(
            'select ''a message in the queue has its command'', %L, commandbus.id_of(q.message),'
            '  jsonb_build_object(''msg_id'', q.msg_id, ''status'', c.status, ''command_msg_id'', c.msg_id)'
            ' from %s as q'
            ' left join commandbus.command as c on c.command_id = commandbus.id_of(q.message) and c.domain = %1$L'
            ' where c.command_id is null or c.status not in (''PENDING'', ''IN_PROGRESS'')'
            '  or c.msg_id is distinct from q.msg_id', v_domain, commandbus.queue_table(v_queue));
        return query execute format(
            'select ''a message in the queue is where receivers look'', %L, commandbus.id_of(q.message), jsonb_build_object(''msg_id'', q.msg_id)'
            ' from %s as q where not $1 @> q.msg_id', v_domain, commandbus.queue_table(v_queue))
        using (commandbus.live_range_of(v_domain, commandbus.queue_table(v_queue))).ranges;
        return query execute format(
            'select ''a command with a message id has that message'', c.domain, c.command_id,'
            '  jsonb_build_object(''msg_id'', c.msg_id, ''status'', c.status)'
            ' from commandbus.command as c'
            ' where c.domain = %L and c.msg_id is not null and not exists (select from %s as q where q.msg_id = c.msg_id)',
            v_domain, commandbus.queue_table(v_queue));
    end loop;

    return query
        select 'a pending command waits in exactly one place', c.domain, c.command_id,
               jsonb_build_object('msg_id', c.msg_id, 'deferred', d.command_id is not null, 'keyed', k.command_id is not null,
                                  'parked', p.command_id is not null)
        from commandbus.command as c
        left join commandbus.deferred as d on d.command_id = c.command_id and d.domain = c.domain
        left join commandbus.keyed as k on k.domain = c.domain and k.key = c.key and k.subject_no = c.subject_no
        left join commandbus.parked as p on p.command_id = c.command_id and p.domain = c.domain
        where (c.status = 'PENDING' and num_nonnulls(c.msg_id, d.command_id, k.command_id, p.command_id) <> 1)
           or (c.status <> 'PENDING' and num_nonnulls(d.command_id, k.command_id, p.command_id) <> 0)
           or (c.status = 'IN_PROGRESS' and c.msg_id is null)
           or (c.status not in ('PENDING', 'IN_PROGRESS') and c.msg_id is not null);

    return query
        select 'the deferred and parked tables name commands', w.domain, w.command_id, null::jsonb
        from (
            select d.domain, d.command_id from commandbus.deferred as d
            union all
            select p.domain, p.command_id from commandbus.parked as p
        ) as w
        where not exists (
            select from commandbus.command as c where c.command_id = w.command_id and c.domain = w.domain);

    return query
        select 'what is parked waits before a gate', p.domain, p.command_id, jsonb_build_object('command_type', p.command_type)
        from commandbus.parked as p
        where p.held_by is null and not exists (select from commandbus.gate as g where g.domain = p.domain and g.command_type = p.command_type);

    return query
        select 'what a breaker holds has its breaker', p.domain, p.command_id,
               jsonb_build_object('command_type', p.command_type, 'fingerprint', p.held_by)
        from commandbus.parked as p
        where p.held_by is not null and not exists (
            select from commandbus.breaker as b
            join commandbus.breaker_rule as r on r.domain = b.domain and r.command_type = b.command_type
            join commandbus.breaker_rule as o on o.domain = b.domain and o.command_type = ''
            where b.domain = p.domain and b.command_type = p.command_type and b.fingerprint = p.held_by);

    return query
        select 'the keyed table names commands', k.domain, k.command_id, jsonb_build_object('key', k.key)
        from commandbus.keyed as k
        where not exists (
            select from commandbus.command as c
            where c.command_id = k.command_id and c.domain = k.domain and c.key = k.key and c.subject_no = k.subject_no);

    return query
        select 'a key whose commands wait has a head or a hint', k.domain, k.command_id, jsonb_build_object('key', k.key)
        from commandbus.keyed as k
        where not exists (
                select from commandbus.key_head as h
                where h.domain = k.domain and h.key = k.key and h.subject_no <> k.subject_no)
          and not exists (select from commandbus.key_hint as h where h.domain = k.domain and h.key = k.key and h.hint_no >= commandbus.first_hint(k.domain));

    return query
        select 'the head of a key is a command that has not ended', h.domain, h.command_id,
               jsonb_build_object('key', h.key, 'status', c.status)
        from commandbus.key_head as h
        left join commandbus.command as c on c.command_id = h.command_id and c.domain = h.domain
        where c.command_id is null or c.key is distinct from h.key or c.subject_no <> h.subject_no
           or c.status in ('COMPLETED', 'FAILED', 'CANCELED');

    return query
        select 'a command with a key is ready or in progress only as its head', c.domain, c.command_id,
               jsonb_build_object('key', c.key, 'status', c.status)
        from commandbus.command as c
        where c.key is not null and c.msg_id is not null and not exists (
            select from commandbus.key_head as h where h.key = c.key and h.domain = c.domain and h.command_id = c.command_id);

    return query
        select 'a unique key is claimed by a command of that key', u.domain, u.command_id, jsonb_build_object('unique_key', u.unique_key)
        from commandbus.unique_claim as u
        where not exists (
            select from commandbus.command as c
            where c.command_id = u.command_id and c.domain = u.domain and c.unique_key = u.unique_key);

    return query
        select 'a command that has not ended holds its unique key', c.domain, c.command_id,
               jsonb_build_object('unique_key', c.unique_key, 'status', c.status, 'holder', u.command_id)
        from commandbus.command as c
        left join commandbus.unique_claim as u on u.domain = c.domain and u.unique_key = c.unique_key
        where c.unique_key is not null and c.status not in ('COMPLETED', 'FAILED', 'CANCELED')
          and u.command_id is distinct from c.command_id;

    return query
        select 'the troubleshooting table equals the commands in troubleshooting',
               coalesce(c.domain, t.domain), coalesce(c.command_id, t.command_id), jsonb_build_object('status', c.status)
        from (select * from commandbus.command where status = 'IN_TROUBLESHOOTING_QUEUE') as c
        full join commandbus.troubleshooting as t on t.command_id = c.command_id and t.domain = c.domain
        where c.command_id is null or t.command_id is null;

    return query
        select 'attempts stay within max_attempts', c.domain, c.command_id,
               jsonb_build_object('attempts', c.attempts, 'max_attempts', c.max_attempts)
        from commandbus.command as c
        where c.attempts > c.max_attempts or c.attempts < 0;

    return query
        select 'a terminal command has answered who asked', c.domain, c.command_id,
               jsonb_build_object('status', c.status, 'reply_to', c.reply_to)
        from commandbus.command as c
        where c.reply_to is not null
          and (c.status in ('COMPLETED', 'FAILED', 'CANCELED')) <> (c.reply_msg_id is not null);

    return query
        with steps as (
            select a.subject_no, a.audit_id, a.event_type,
                   coalesce(lag(a.event_type) over w, 'NONE') as before_event,
                   lead(a.event_type) over w is null as is_last
            from commandbus.audit as a
            where a.event_type not in ('STALE_REFUSED', 'REPAIRED', 'RETRY_EXHAUSTED', 'KEY_RELEASED', 'BATCH_STARTED', 'BATCH_COMPLETED')
            window w as (partition by a.subject_no order by a.audit_id)
        ), after_event as (
            select distinct p.event_type, p.after from commandbus.audit_path as p
            where p.event_type not in ('STALE_REFUSED', 'RETRY_EXHAUSTED', 'KEY_RELEASED')
            union all
            select 'NONE', 'NONE'
        ), judged as (
            select st.*, pa.after as becomes
            from steps as st
            left join after_event as ae on ae.event_type = st.before_event
            left join commandbus.audit_path as pa on pa.event_type = st.event_type and pa.before = ae.after
        )
        select 'an audit trail is a legal path that ends at the status', c.domain, c.command_id,
               jsonb_build_object('event', j.event_type, 'after', j.before_event, 'status', c.status, 'subject_no', j.subject_no)
        from judged as j
        full join commandbus.command as c on c.subject_no = j.subject_no
        where (j.subject_no is null or c.subject_no is null or j.becomes is null or (j.is_last and j.becomes <> c.status))
          and (c.pruned_at is null or j.subject_no is not null);

    return query
        select 'a finished batch has sent its completion command', b.domain, (b.on_complete ->> 'command_id')::uuid,
               jsonb_build_object('batch_id', b.batch_id)
        from commandbus.batch as b
        where b.completed_at is not null and b.on_complete is not null and not exists (
            select from commandbus.command as c
            where c.command_id = (b.on_complete ->> 'command_id')::uuid and c.domain = b.on_complete ->> 'domain');

    return query
        with counted as (
            select c.domain, c.batch_id, count(*) as total,
                   count(*) filter (where c.status = 'COMPLETED') as completed,
                   count(*) filter (where c.status = 'FAILED') as failed,
                   count(*) filter (where c.status = 'CANCELED') as canceled,
                   count(*) filter (where c.status = 'IN_TROUBLESHOOTING_QUEUE') as troubleshooting
            from commandbus.command as c where c.batch_id is not null group by c.domain, c.batch_id
        ), noted as (
            select b.domain, b.batch_id,
                   b.total_count + coalesce(sum(d.total), 0) as total,
                   b.completed_count + coalesce(sum(d.completed), 0) as completed,
                   b.failed_count + coalesce(sum(d.failed), 0) as failed,
                   b.canceled_count + coalesce(sum(d.canceled), 0) as canceled,
                   b.troubleshooting_count + coalesce(sum(d.troubleshooting), 0) as troubleshooting
            from commandbus.batch as b
            left join commandbus.batch_delta as d on d.batch_id = b.batch_id and d.domain = b.domain
            where b.forgotten_at is null
            group by b.batch_id, b.domain
        )
        select 'the counts of a batch recount', n.domain, null::uuid,
               jsonb_build_object('batch_id', n.batch_id, 'noted', to_jsonb(n), 'counted', to_jsonb(c))
        from noted as n
        left join counted as c on c.batch_id = n.batch_id and c.domain = n.domain
        where (n.total, n.completed, n.failed, n.canceled, n.troubleshooting)
            is distinct from (coalesce(c.total, 0), coalesce(c.completed, 0), coalesce(c.failed, 0), coalesce(c.canceled, 0),
                coalesce(c.troubleshooting, 0));
end;
$$;
