-- What happened to commands between two times: how many were sent, completed, failed (for good, or to an operator) and set to be tried again; how long they waited
-- for their first start, and how long starts took to a good end or a refusal, in seconds.
--
-- Called for charts. Counts are exact; lengths are of p_samples commands or a few more, drawn evenly: median, 95 and 99 percent; null where there is none.
-- Reads the audit trail of this time and nothing else of it, by audit_time, which the planner may take for worthless: its plan is forbidden to read the
-- whole table instead. What was written last and is in no range yet is read whole. Locks nothing.
create or replace function commandbus.traffic(p_since timestamptz, p_until timestamptz, p_samples integer)
returns table (sent bigint, completed bigint, failed bigint, retried bigint, waits double precision[], handlings double precision[])
language sql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
    with happened as materialized (
        select a.subject_no, a.audit_id, a.ts, a.event_type
        from commandbus.audit as a
        where a.ts >= p_since and a.ts < p_until
          and a.event_type in ('SENT', 'RECEIVED', 'COMPLETED', 'BUSINESS_RULE_FAILED', 'MOVED_TO_TSQ', 'RETRY_SCHEDULED', 'OPERATOR_COMPLETE')
    ), counted as materialized (
        select count(*) filter (where h.event_type = 'SENT') as sent,
               count(*) filter (where h.event_type in ('COMPLETED', 'OPERATOR_COMPLETE')) as completed,
               count(*) filter (where h.event_type in ('BUSINESS_RULE_FAILED', 'MOVED_TO_TSQ')) as failed,
               count(*) filter (where h.event_type = 'RETRY_SCHEDULED') as retried,
               greatest(1, count(*) filter (where h.event_type = 'RECEIVED') / p_samples) as one_start_of,
               greatest(1, count(*) filter (where h.event_type in ('COMPLETED', 'BUSINESS_RULE_FAILED')) / p_samples) as one_end_of
        from happened as h
    ), sampled as materialized (
        select h.subject_no, h.audit_id, h.ts, 'SENT' as before
        from happened as h, counted as n where h.event_type = 'RECEIVED' and h.subject_no % n.one_start_of = 0
        union all
        select h.subject_no, h.audit_id, h.ts, 'RECEIVED'
        from happened as h, counted as n where h.event_type in ('COMPLETED', 'BUSINESS_RULE_FAILED') and h.subject_no % n.one_end_of = 0
    ), spans as (
        select s.before, extract(epoch from s.ts - b.ts)::double precision as seconds
        from sampled as s
        cross join lateral (
            select a.ts, a.event_type from commandbus.audit as a
            where a.subject_no = s.subject_no and a.audit_id < s.audit_id
            order by a.audit_id desc limit 1
        ) as b
        where b.event_type = s.before
    ), lengths as (
        select s.before, percentile_cont(array[0.5, 0.95, 0.99]) within group (order by s.seconds) as percentiles from spans as s group by s.before
    )
    select n.sent, n.completed, n.failed, n.retried,
           (select l.percentiles from lengths as l where l.before = 'SENT'),
           (select l.percentiles from lengths as l where l.before = 'RECEIVED')
    from counted as n
$$;
