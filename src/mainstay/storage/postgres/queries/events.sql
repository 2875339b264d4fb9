-- name: append
-- Append events to streams; a row for each stream.
select version, position, repeated
from eventsource.append(
    %(categories)s::text[], %(tenants)s::text[], %(ids)s::text[], %(expected)s::integer[], %(counts)s::integer[],
    %(event_ids)s::uuid[], %(types)s::text[], %(payloads)s::json[], %(occurred_at)s::timestamptz[], %(event_versions)s::integer[],
    %(correlation_ids)s::uuid[], %(causation_ids)s::uuid[], %(actor_ids)s::text[], %(metadata)s::text[], %(tags)s::text[],
    %(items)s::jsonb, %(after)s::bigint, %(tenant)s::text);

-- name: append_one
-- Append one event to one stream.
select version, position, repeated
from eventsource.append_one(
    %(category)s::text, %(tenant)s::text, %(id)s::text, %(expected)s::integer, %(event_id)s::uuid, %(type)s::text,
    %(payload)s::json, %(occurred_at)s::timestamptz, %(event_version)s::integer, %(correlation_id)s::uuid,
    %(causation_id)s::uuid, %(actor_id)s::text, %(metadata)s::json, %(tags)s::text);

-- name: append_current
-- Append to those of several streams that are as expected; what became of each, and the positions of the events.
select fates, positions
from eventsource.append_current(
    %(categories)s::text[], %(tenants)s::text[], %(ids)s::text[], %(expected)s::integer[], %(counts)s::integer[],
    %(places)s::integer[], %(versions)s::integer[], %(event_ids)s::uuid[], %(kind_categories)s::text[], %(kind_types)s::text[],
    %(kinds)s::integer[], %(payloads)s::json[], %(occurred_at)s::timestamptz[], %(event_versions)s::integer[],
    %(correlation_ids)s::uuid[], %(causation_ids)s::uuid[], %(actor_ids)s::text[], %(metadata)s::text[], %(tags)s::text[]);

-- name: read_stream
-- One page of a stream's events, the earliest first; the last column says whether the stream is tombstoned.
select e.*, s.tombstoned_at is not null
from eventsource.stream as s
left join lateral (
    select
        e.position, e.version, e.recorded_at, e.event_id, k.event_type, e.payload::text, e.occurred_at, e.event_version,
        e.correlation_id, e.causation_id, e.actor_id, e.metadata::text, e.tags
    from eventsource.event as e
    join eventsource.kind as k on k.kind_no = e.kind_no
    where e.stream_no = s.stream_no and e.version > %(after)s and e.version <= %(up_to)s
      and (%(up_to_time)s::timestamptz is null or e.recorded_at <= %(up_to_time)s)
    order by e.version
    limit %(limit)s
) as e on s.tombstoned_at is null
where s.category = %(category)s and s.tenant_id = %(tenant)s and s.stream_id = %(id)s
order by e.version;

-- name: read_stream_backwards
-- One page of a stream's events, the latest first; the last column says whether the stream is tombstoned.
select e.*, s.tombstoned_at is not null
from eventsource.stream as s
left join lateral (
    select
        e.position, e.version, e.recorded_at, e.event_id, k.event_type, e.payload::text, e.occurred_at, e.event_version,
        e.correlation_id, e.causation_id, e.actor_id, e.metadata::text, e.tags
    from eventsource.event as e
    join eventsource.kind as k on k.kind_no = e.kind_no
    where e.stream_no = s.stream_no and e.version > %(after)s and e.version <= %(up_to)s
      and (%(up_to_time)s::timestamptz is null or e.recorded_at <= %(up_to_time)s)
    order by e.version desc
    limit %(limit)s
) as e on s.tombstoned_at is null
where s.category = %(category)s and s.tenant_id = %(tenant)s and s.stream_id = %(id)s
order by e.version desc;

-- name: read_streams
-- The events of several streams, each after a version, stream by stream; the last columns say which of those asked for, and whether it is tombstoned.
select e.*, a.place, s.tombstoned_at is not null
from unnest(%(categories)s::text[], %(tenants)s::text[], %(ids)s::text[], %(after)s::integer[])
    with ordinality as a(category, tenant_id, stream_id, after, place)
join eventsource.stream as s on s.category = a.category and s.tenant_id = a.tenant_id and s.stream_id = a.stream_id
left join lateral (
    select
        e.position, e.version, e.recorded_at, e.event_id, k.event_type, e.payload::text, e.occurred_at, e.event_version,
        e.correlation_id, e.causation_id, e.actor_id, e.metadata::text, e.tags
    from eventsource.event as e
    join eventsource.kind as k on k.kind_no = e.kind_no
    where e.stream_no = s.stream_no and e.version > a.after
    order by e.version
) as e on s.tombstoned_at is null
order by a.place, e.version;

-- name: read_feed
-- One page of the feed; the first row is no event, its position is the horizon.
select
    position, version, recorded_at, event_id, event_type, payload, occurred_at, event_version, correlation_id, causation_id,
    actor_id, metadata, tags, category, stream_id, tenant_id
from eventsource.read_feed(
    %(after)s::bigint, %(limit)s::integer, %(types)s::text[], %(categories)s::text[], %(tenant)s::text, %(items)s::jsonb,
    %(archived)s::boolean);

-- name: horizon
-- Which history the positions belong to, and how far the feed can be read now.
select h.epoch, eventsource.horizon() as horizon from eventsource.feed_horizon as h where h.only_one;

-- name: held_back
-- For how many seconds the oldest open transaction that has appended holds the feed back; of others' sessions only who may see them is told.
select greatest(0, coalesce(max(extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared))), 0))::double precision
from pg_catalog.pg_locks as k
left join pg_catalog.pg_stat_activity as a on a.pid = k.pid
left join pg_catalog.pg_locks as x
    on k.pid is null and x.pid is null and x.virtualtransaction = k.virtualtransaction and x.locktype = 'transactionid'
    and x.transactionid in (select g.transaction from pg_catalog.pg_prepared_xacts as g)
left join pg_catalog.pg_prepared_xacts as p on p.transaction = x.transactionid
where k.locktype = 'advisory' and k.objsubid = 1 and k.classid::bigint >> 16 = 28019
  and k.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database());

-- name: event_at
-- The event at a position. The horizon is not asked: it may lie below a position that was given out before, while a transaction is open whose floor came late.
select
    e.position, e.version, e.recorded_at, e.event_id, k.event_type, e.payload::text, e.occurred_at, e.event_version,
    e.correlation_id, e.causation_id, e.actor_id, e.metadata::text, e.tags, k.category, s.stream_id, s.tenant_id
from eventsource.event as e
join eventsource.stream as s on s.stream_no = e.stream_no
join eventsource.kind as k on k.kind_no = e.kind_no
where e.position = %(position)s;

-- name: events_at
-- The events at positions, in the order of these; the horizon is not asked.
select
    e.position, e.version, e.recorded_at, e.event_id, k.event_type, e.payload::text, e.occurred_at, e.event_version,
    e.correlation_id, e.causation_id, e.actor_id, e.metadata::text, e.tags, k.category, s.stream_id, s.tenant_id
from unnest(%(positions)s::bigint[]) with ordinality as p(position, place)
cross join lateral (select x.* from eventsource.event as x where x.position = p.position offset 0) as e
join eventsource.stream as s on s.stream_no = e.stream_no
join eventsource.kind as k on k.kind_no = e.kind_no
order by p.place;

-- name: conversation
-- The events of conversations, in order; the horizon is not asked.
select
    e.position, e.version, e.recorded_at, e.event_id, k.event_type, e.payload::text, e.occurred_at, e.event_version,
    e.correlation_id, e.causation_id, e.actor_id, e.metadata::text, e.tags, k.category, s.stream_id, s.tenant_id
from eventsource.conversation(%(correlation_ids)s::uuid[], %(limit)s) as f(position)
cross join lateral (select x.* from eventsource.event as x where x.position = f.position offset 0) as e
join eventsource.stream as s on s.stream_no = e.stream_no
join eventsource.kind as k on k.kind_no = e.kind_no
order by e.position;

-- name: event_known_as
-- The event with an id.
select
    e.position, e.version, e.recorded_at, e.event_id, k.event_type, e.payload::text, e.occurred_at, e.event_version,
    e.correlation_id, e.causation_id, e.actor_id, e.metadata::text, e.tags, k.category, s.stream_id, s.tenant_id
from eventsource.event as e
join eventsource.stream as s on s.stream_no = e.stream_no
join eventsource.kind as k on k.kind_no = e.kind_no
where e.position = (select eventsource.find_event(%(event_id)s));

-- name: stream_state
-- What is known of a stream.
select s.category, s.stream_id, s.tenant_id, s.version, s.created_at, s.archived_at, s.tombstoned_at, s.tombstone::text
from eventsource.stream as s
where s.category = %(category)s and s.tenant_id = %(tenant)s and s.stream_id = %(id)s and s.version > 0;

-- name: streams
-- Streams in the order of category, tenant and id.
select s.category, s.stream_id, s.tenant_id, s.version, s.created_at, s.archived_at, s.tombstoned_at, s.tombstone::text
from eventsource.list_streams(
    %(category)s::text, %(tenant)s::text, %(prefix)s::text, %(after_category)s::text, %(after_tenant)s::text, %(after_id)s::text,
    %(limit)s::integer) as s;

-- name: tombstone
-- Empty a stream for good; what is known of it then.
select s.category, s.stream_id, s.tenant_id, s.version, s.created_at, s.archived_at, s.tombstoned_at, s.tombstone::text
from eventsource.tombstone(%(category)s, %(tenant)s, %(id)s, %(reason)s, %(actor)s) as s;

-- name: archive
-- Close a stream to appends, or open it again; what is known of it then.
select s.category, s.stream_id, s.tenant_id, s.version, s.created_at, s.archived_at, s.tombstoned_at, s.tombstone::text
from eventsource.archive(%(category)s, %(tenant)s, %(id)s, %(archived)s) as s;

-- name: prepare_import
-- Make room for a part of an import.
select stream_nos, versions, kinds, positions
from eventsource.prepare_import(
    %(categories)s::text[], %(tenants)s::text[], %(ids)s::text[], %(counts)s::integer[], %(kind_categories)s::text[],
    %(types)s::text[], %(tags)s::text[]);

-- name: compare_import
-- Hold events that are to be imported against those that are there; a row for each.
select stream_version, event_id
from eventsource.compare_import(
    %(categories)s::text[], %(tenants)s::text[], %(ids)s::text[], %(places)s::integer[], %(versions)s::integer[],
    %(event_ids)s::uuid[]);

-- name: copy_events
-- The events of a part of an import.
copy eventsource.event (
    position, stream_no, version, kind_no, recorded_at, event_version, event_id, occurred_at, correlation_id, causation_id, actor_id,
    payload, metadata, tags) from stdin;

-- name: copy_tags
-- What finds the events of a part of an import by their tags.
copy eventsource.event_tag (tag, position) from stdin;

-- name: now
-- When the transaction began.
select now();

-- name: publish_horizon
-- Publish the horizon, if nobody else does; where it is, and for how many seconds another one publishes.
select position, seconds from eventsource.publish_horizon(%(holder)s, %(lease)s, %(told)s::bigint);

-- name: end_publishing
-- Let another one publish.
select eventsource.end_publishing(%(holder)s);

-- name: renew_epoch
-- State that positions may have been given out twice.
select eventsource.renew_epoch();

-- name: set_mark
-- Where to return to if what follows is to be undone alone.
savepoint mainstay_part;

-- name: return_to_mark
-- Undo what was done since.
rollback to savepoint mainstay_part;

-- name: forget_mark
-- What was done since is part of the whole.
release savepoint mainstay_part;

-- name: begin_plainly
-- Begin a transaction whose every statement sees what is committed when it begins, whatever the default is.
begin isolation level read committed read write;

-- name: hold_streams
-- Hold streams until the transaction ends; the places of those that are held.
select eventsource.hold_streams(%(categories)s::text[], %(tenants)s::text[], %(ids)s::text[]);
