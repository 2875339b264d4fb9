-- What happened to commands between two times: how many were sent, completed, failed (for good, or to an operator) and set to be tried again; how long they waited
-- for their first start, and how long starts took to a good end or a refusal, in seconds.
--
-- Called for charts. Counts are exact; lengths are of p_samples commands or a few more, drawn evenly: median, 95 and 99 percent; null where there is none.
-- Reads the audit trail of this time and nothing else of it, by audit_time, which the planner may take for worthless: its plan is forbidden to read the
-- whole table instead. What was written last and is in no range yet is read whole. One pass counts, and draws one of 16 commands for the lengths; only where so
-- little happened that these would not be enough, it is read once more for them. Without workers of its own: who looks must not take what commands are handled with.
-- Locks nothing.
create or replace function commandbus.traffic(p_since timestamptz, p_until timestamptz, p_samples integer)
returns table (sent bigint, completed bigint, failed bigint, retried bigint, waits double precision[], handlings double precision[])
language sql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
    with kinds as materialized (
        select a.event_type, count(*) as happened,
               array_agg(a.subject_no) filter (where a.subject_no % 16 = 0) as drawn,
               array_agg(a.audit_id) filter (where a.subject_no % 16 = 0) as drawn_ids
        from commandbus.audit as a
        where a.ts >= p_since and a.ts < p_until
        group by a.event_type
    ), asked as materialized (
        select w.before, w.ends_with, n.happened >= 16 * p_samples as is_drawn,
               case when n.happened >= 16 * p_samples then 16 * (n.happened / (16 * p_samples)) else greatest(1, n.happened / p_samples) end as one_of
        from (values ('SENT', array['RECEIVED']), ('RECEIVED', array['COMPLETED', 'BUSINESS_RULE_FAILED'])) as w(before, ends_with)
        cross join lateral (select sum(k.happened)::bigint as happened from kinds as k where k.event_type = any (w.ends_with)) as n
        where n.happened > 0
    ), sampled as materialized (
        select q.before, a.subject_no, a.audit_id, a.ts
        from asked as q
        join kinds as k on k.event_type = any (q.ends_with)
        cross join lateral unnest(k.drawn, k.drawn_ids) as d(subject_no, audit_id)
        cross join lateral (
            select a.subject_no, a.audit_id, a.ts from commandbus.audit as a where a.subject_no = d.subject_no and a.audit_id = d.audit_id
        ) as a
        where q.is_drawn and d.subject_no % q.one_of = 0
        union all
        select q.before, a.subject_no, a.audit_id, a.ts
        from asked as q
        cross join lateral (
            select a.subject_no, a.audit_id, a.ts from commandbus.audit as a
            where not q.is_drawn and a.ts >= p_since and a.ts < p_until and a.event_type = any (q.ends_with) and a.subject_no % q.one_of = 0
            offset 0
        ) as a
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
    select coalesce(sum(k.happened) filter (where k.event_type = 'SENT'), 0)::bigint,
           coalesce(sum(k.happened) filter (where k.event_type in ('COMPLETED', 'OPERATOR_COMPLETE')), 0)::bigint,
           coalesce(sum(k.happened) filter (where k.event_type in ('BUSINESS_RULE_FAILED', 'MOVED_TO_TSQ')), 0)::bigint,
           coalesce(sum(k.happened) filter (where k.event_type = 'RETRY_SCHEDULED'), 0)::bigint,
           (select l.percentiles from lengths as l where l.before = 'SENT'),
           (select l.percentiles from lengths as l where l.before = 'RECEIVED')
    from kinds as k
$$;
