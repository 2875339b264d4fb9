-- Deal with those of the messages in hand that were read before: their worker is gone, or was too slow.
--
-- Called by receive, which holds the queue rows. Commands IN_PROGRESS lose their lease (audit LEASE_EXPIRED): they go back to
-- PENDING for another attempt (or, if somebody asked, to be canceled) or, with their attempts used up, to troubleshooting, so that a command that kills its workers stops.
-- A message that was read before and is not its command's own says nothing about the command's lease.
-- Locks command rows in the order of ids. Returns the message ids that are gone from the queue.
create or replace function commandbus.expire_leases(p_domain text, p_leased commandbus.leased_message[])
returns bigint[]
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
    v_gone bigint[];
    v_troubled uuid[];
begin
    with expired as materialized (
        select c.command_id, c.subject_no, c.msg_id, c.attempts >= c.max_attempts and c.cancel_request is null as exhausted, c.batch_id
        from unnest(p_leased) as m
        join commandbus.command as c on c.command_id = any (array[m.command_id]) and c.domain || '' = p_domain
        where m.is_reread and c.status = 'IN_PROGRESS' and c.msg_id = m.msg_id
        order by c.command_id
        for update of c
    ), changed as (
        update commandbus.command as c
        set status = case when e.exhausted then 'IN_TROUBLESHOOTING_QUEUE' else 'PENDING' end,
            lease_no = c.lease_no + 1,
            msg_id = case when not e.exhausted then c.msg_id end,
            error_type = 'TRANSIENT', error_code = 'LEASE_EXPIRED',
            error_message = 'the worker stopped or lost its lease before it finished',
            updated_at = v_now
        from expired as e
        where c.command_id = any (array[e.command_id]) and c.domain || '' = p_domain
    ), audited as (
        insert into commandbus.audit (subject_no, event_type, ts, details)
        select e.subject_no, v.event_type, v_now, v.details
        from expired as e
        cross join lateral (values
            (1, 'LEASE_EXPIRED', null::jsonb, true),
            (2, 'RETRY_EXHAUSTED', null, e.exhausted),
            (3, 'MOVED_TO_TSQ', jsonb_build_object('reason', 'EXHAUSTED', 'error_code', 'LEASE_EXPIRED'), e.exhausted)
        ) as v(n, event_type, details, applies)
        where v.applies
        order by e.command_id, v.n
    ), counted as (
        insert into commandbus.batch_delta (domain, batch_id, troubleshooting)
        select p_domain, e.batch_id, count(*) from expired as e
        where e.exhausted and e.batch_id is not null group by e.batch_id
    )
    select array_agg(e.msg_id), array_agg(e.command_id) into v_gone, v_troubled from expired as e where e.exhausted;
    if v_gone is not null then
        execute format('delete from %s where msg_id = any ($1)', commandbus.queue_table(p_domain || '__commands'))
        using v_gone;
        perform commandbus.troubleshoot(p_domain, v_troubled);
    end if;
    return coalesce(v_gone, '{}');
end;
$$;
