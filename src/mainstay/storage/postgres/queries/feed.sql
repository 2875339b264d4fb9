-- What operators ask about events and projections.

-- name: place_in_time
-- A position before which everything was recorded before a moment.
select eventsource.place_in_time(%(since)s::timestamptz, eventsource.horizon());

-- name: place_before_last
-- The position after which the last so many wanted events stand.
select eventsource.place_before_last(
    %(types)s::text[], %(categories)s::text[], %(tenant)s::text, eventsource.horizon(), %(count)s::integer);

-- name: last_positions
-- The positions of the last so many wanted events up to one, the highest first.
select eventsource.last_positions(
    %(types)s::text[], %(categories)s::text[], %(tenant)s::text, %(up_to)s::bigint, %(count)s::integer);

-- name: kinds
-- The types of events of each category.
select k.category, k.event_type from eventsource.kind as k order by k.category, k.event_type limit %(limit)s;

-- name: find_event
-- The positions of the events with an id, which no index has: all events are looked at.
select e.position from eventsource.event as e where e.event_id = %(event_id)s order by e.position limit 2;

-- name: find_event_in_stream
-- The position of the event of a stream with an id.
select e.position
from eventsource.stream as s
join eventsource.event as e on e.stream_no = s.stream_no
where s.category = %(category)s and s.tenant_id = %(tenant)s and s.stream_id = %(id)s and e.event_id = %(event_id)s
order by e.position
limit 2;

-- name: numbers
-- How many events and streams there are, by count while the tables are small and else by the last analysis; and when the last event was recorded.
select case when pg_relation_size('eventsource.event') < %(small)s
            then (select count(*) from eventsource.event)
            else greatest((select c.reltuples::bigint from pg_catalog.pg_class as c where c.oid = 'eventsource.event'::regclass), 0) end as events,
       case when pg_relation_size('eventsource.stream') < %(small)s
            then (select count(*) from eventsource.stream as s where s.version > 0)
            else greatest((select c.reltuples::bigint from pg_catalog.pg_class as c where c.oid = 'eventsource.stream'::regclass), 0) end as streams,
       pg_relation_size('eventsource.event') < %(small)s and pg_relation_size('eventsource.stream') < %(small)s as exact,
       h.horizon,
       extract(epoch from clock_timestamp() - (
           select e.recorded_at from eventsource.event as e order by e.position desc limit 1))::double precision as last_seconds
from (select eventsource.horizon() as horizon) as h;

-- name: overview
-- How it is with each subscription, or with one: of its shards the one that fares worst and the one that is furthest behind, and who holds them.
with h as materialized (
    select eventsource.horizon() as horizon
), mine as materialized (
    select s.subscription, count(*)::integer as shards, min(s.position) as position,
           coalesce(min(s.shard) filter (where s.status = 'STOPPED'), min(s.shard) filter (where s.status = 'PAUSED'), min(s.shard)) as worst,
           count(*) filter (where s.leased_until > now())::integer as owned,
           coalesce(array_agg(distinct s.owner) filter (where s.leased_until > now() and s.owner is not null), '{}') as owners
    from eventsource.shard as s
    where %(subscription)s::text is null or s.subscription = %(subscription)s
    group by s.subscription
)
select m.subscription, m.shards, w.status, m.position, h.horizon, b.events, b.exact,
       extract(epoch from clock_timestamp() - b.recorded_at)::double precision as seconds,
       coalesce(l.letters, 0) as dead_letters,
       m.owned, m.owners, w.reason, w.actor, n.version, n.generation
from h
cross join mine as m
join eventsource.behind((select array_agg(a.position) from mine as a), (select horizon from h), %(most)s) as b on b.position = m.position
join eventsource.shard as w on w.subscription = m.subscription and w.shard = m.worst
join eventsource.subscription as n on n.subscription = m.subscription
left join eventsource.count_letters((select array_agg(a.subscription) from mine as a)) as l on l.subscription = m.subscription
order by m.subscription;

-- name: lags
-- How far each shard is behind.
with h as materialized (
    select eventsource.horizon() as horizon
), asked as materialized (
    select s.subscription, s.shard, s.position from eventsource.shard as s
    where %(subscription)s::text is null or s.subscription = %(subscription)s
)
select a.subscription, a.shard, h.horizon, b.events, b.exact,
       extract(epoch from clock_timestamp() - b.recorded_at)::double precision as seconds
from h
cross join asked as a
join eventsource.behind((select array_agg(s.position) from asked as s), (select horizon from h), %(most)s) as b on b.position = a.position
order by a.subscription, a.shard;

-- name: is_known
-- Whether there is a subscription.
select exists (select from eventsource.subscription as s where s.subscription = %(subscription)s);

-- name: letter_groups
-- The first dead letter that waits of each key, and how many wait with it, by subscription and position.
select d.subscription, d.shard, d.position, d.event_id, d.event_type, d.key, d.error, d.error_type, d.attempts, d.created_at, d.status,
    d.actor, d.reason, g.count
from (
    select w.subscription, min(w.position) as position, count(*) as count
    from eventsource.dead_letter as w
    where w.status = 'WAITING' and (%(subscription)s::text is null or w.subscription = %(subscription)s)
    group by w.subscription, w.key
    order by w.subscription, min(w.position)
    limit %(limit)s
) as g
join eventsource.dead_letter as d on d.subscription = g.subscription and d.position = g.position
order by d.subscription, d.position;
