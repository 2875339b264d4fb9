-- End commands that shall not be handled any more: CANCELED, because somebody wants it (p_request: {reason}; null: as the command's own
-- cancel_request says), else because they expired.
--
-- Called by cancel, by receive, which met them in the queue, and by complete, for commands that came back although they were to be
-- canceled. All of them hold the rows in which these commands wait: in the queue, deferred, keyed, parked or in troubleshooting. Takes them out of there,
-- counts them in their batches, replies, and lets their keys go on. Commands that are neither PENDING nor in troubleshooting are left alone.
-- Locks: command rows in the order of ids. Returns how many were ended.
create or replace function commandbus.call_off(p_domain text, p_command_ids uuid[], p_request jsonb)
returns integer
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_ids uuid[];
    v_msg_ids bigint[];
    v_to_reply uuid[];
    v_keyed uuid[];
begin
    with ended as materialized (
        select c.command_id, c.subject_no, c.status, c.msg_id, c.batch_id, c.reply_to, c.key, c.expires_at,
               coalesce(p_request, c.cancel_request) as request
        from (select distinct t.id from unnest(p_command_ids) as t(id) order by t.id) as given
        join commandbus.command as c on c.command_id = any (array[given.id]) and c.domain || '' = p_domain
        where c.status in ('PENDING', 'IN_TROUBLESHOOTING_QUEUE')
        order by c.command_id
        for update of c
    ), changed as (
        update commandbus.command as c
        set status = 'CANCELED', msg_id = null, due_at = null, updated_at = v_now,
            error_code = case when e.request is null then 'EXPIRED' else 'CANCELED' end,
            error_message = case when e.request is null then 'it was not handled in time' else e.request ->> 'reason' end
        from ended as e
        where c.command_id = any (array[e.command_id]) and c.domain || '' = p_domain
    ), undeferred as (
        delete from commandbus.deferred as d using ended as e
        where e.status = 'PENDING' and e.msg_id is null and d.command_id = any (array[e.command_id]) and d.domain || '' = p_domain
    ), unkeyed as (
        delete from commandbus.keyed as k using ended as e
        where e.status = 'PENDING' and e.msg_id is null
          and k.domain = p_domain and k.key = any (array[e.key]) and k.subject_no = e.subject_no
    ), unparked as (
        delete from commandbus.parked as p using ended as e
        where e.status = 'PENDING' and e.msg_id is null and p.command_id = any (array[e.command_id]) and p.domain || '' = p_domain
    ), unlisted as (
        delete from commandbus.troubleshooting as t using ended as e
        where e.status = 'IN_TROUBLESHOOTING_QUEUE' and t.command_id = any (array[e.command_id]) and t.domain || '' = p_domain
    ), audited as (
        insert into commandbus.audit (subject_no, event_type, ts, details)
        select e.subject_no, case when e.request is null then 'EXPIRED' else 'CANCELED' end, v_now,
               coalesce(e.request, jsonb_build_object('expires_at', e.expires_at))
        from ended as e
        order by e.command_id
    ), counted as (
        insert into commandbus.batch_delta (domain, batch_id, canceled, troubleshooting)
        select p_domain, e.batch_id, count(*), -count(*) filter (where e.status = 'IN_TROUBLESHOOTING_QUEUE')
        from ended as e where e.batch_id is not null group by e.batch_id
    )
    select
        array_agg(e.command_id), array_agg(e.msg_id) filter (where e.msg_id is not null),
        array_agg(e.command_id) filter (where e.reply_to is not null), array_agg(e.command_id) filter (where e.key is not null)
    into v_ids, v_msg_ids, v_to_reply, v_keyed
    from ended as e;
    if v_msg_ids is not null then
        execute format('delete from %s where msg_id = any ($1)', commandbus.queue_table(p_domain || '__commands')) using v_msg_ids;
    end if;
    if v_to_reply is not null then
        perform commandbus.reply(p_domain, v_to_reply);
    end if;
    if v_keyed is not null then
        perform commandbus.release_keys(p_domain, v_keyed);
    end if;
    return coalesce(cardinality(v_ids), 0);
end;
$$;
