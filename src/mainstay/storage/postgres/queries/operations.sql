-- name: find_commands
-- Which domains have commands with these ids.
select domain, command_id from commandbus.command
where command_id = any (%(command_ids)s) and (%(domain)s::text is null or domain = %(domain)s)
order by domain, command_id;

-- name: find_batches
-- Which domains have a batch with this id.
select domain, batch_id from commandbus.batch
where batch_id = %(batch_id)s and (%(domain)s::text is null or domain = %(domain)s)
order by domain;

-- name: latencies
-- How long the commands of some domains waited for their first start, and how long one start took to its end, in seconds.
with steps as (
    select a.event_type, a.ts,
           lead(a.ts) over trail as next_ts,
           lead(a.event_type) over trail as next_event
    from commandbus.command as c
    join commandbus.audit as a on a.subject_no = c.subject_no
    where c.domain = any (%(domains)s) and c.created_at >= %(since)s
      and (%(command_type)s::text is null or c.command_type = %(command_type)s)
    window trail as (partition by c.subject_no order by a.audit_id)
), spans as (
    select 'wait' as span, extract(epoch from next_ts - ts)::double precision as seconds
    from steps where event_type = 'SENT' and next_event = 'RECEIVED'
    union all
    select 'handling', extract(epoch from next_ts - ts)::double precision
    from steps where event_type = 'RECEIVED' and next_event in ('COMPLETED', 'FAILED', 'BUSINESS_RULE_FAILED', 'MOVED_TO_TSQ')
)
select span, count(*) as samples,
       percentile_cont(array[0.5, 0.95, 0.99, 1]) within group (order by seconds) as percentiles
from spans
group by span
order by span desc;

-- name: repair
-- Mend one thing that fsck found; what was done, null if nothing.
select commandbus.repair(
    %(invariant)s, %(domain)s, %(command_id)s, %(details)s::jsonb, %(operator)s);

-- name: prune
-- Take away what is no longer needed of some ended commands; how far it came.
select walked, pruned, forgotten, audit_deleted, last_at, last_id
from commandbus.prune(
    now() - %(completed)s::interval, now() - %(audit)s::interval, %(forget)s::boolean,
    coalesce(%(after)s::timestamptz, '-infinity'), %(after_id)s::uuid, %(limit)s);

-- name: prune_processes
-- Take away what is no longer needed of some ended processes; how far it came.
select walked, pruned, forgotten, audit_deleted, last_at, last_id
from commandbus.prune_processes(
    now() - %(completed)s::interval, now() - %(audit)s::interval, %(forget)s::boolean,
    coalesce(%(after)s::timestamptz, '-infinity'), %(after_id)s::uuid, %(limit)s);

-- name: prune_breakers
-- Delete old events of breakers; how many were deleted.
select commandbus.prune_breakers(now() - %(audit)s::interval);

-- name: prune_trail
-- Delete what operators did long ago; how many rows were deleted.
select commandbus.prune_trail(now() - %(audit)s::interval);

-- name: prune_batches
-- Take away what is no longer needed of some ended batches; how far it came.
select walked, pruned, forgotten, audit_deleted, last_at, last_id
from commandbus.prune_batches(
    now() - %(completed)s::interval, now() - %(audit)s::interval, %(forget)s::boolean, %(after_id)s::uuid, %(limit)s);

-- name: prune_actions
-- Delete some items of operators' actions that ended long ago, or an action; how many.
select items, actions from commandbus.prune_actions(now() - %(completed)s::interval, now() - %(audit)s::interval, %(limit)s);

-- name: prune_archives
-- Delete old archived messages; how many were deleted.
select commandbus.prune_archives(now() - %(archive)s::interval, %(limit)s);

-- name: take_pruning
-- Ask to be the one who prunes: 0, or seconds after which to ask again.
select commandbus.take_pruning(%(holder)s, %(seconds)s);

-- name: end_pruning
-- Let another one prune.
select commandbus.end_pruning(%(holder)s, %(every)s);
