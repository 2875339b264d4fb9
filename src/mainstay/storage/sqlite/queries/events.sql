-- What the log of events asks. Names of streams come as JSON: [[category, tenant, id], ...]; no tenant is ''.

-- name: horizon
-- Which history the positions belong to, and the last one given out by a commit. Positions are given out under the
-- write lock, so all below are there.
select epoch, coalesce((select seq from sqlite_sequence where name = 'mainstay_event'), 0) from mainstay_feed;

-- name: standings
-- What is known of streams, in the order asked; and the last position and number given out so far.
select
    stream.number, stream.version, stream.created_at, stream.is_archived, stream.is_tombstoned, stream.reason,
    stream.actor,
    coalesce((select seq from sqlite_sequence where name = 'mainstay_event'), 0),
    coalesce((select max(number) from mainstay_stream), 0)
from json_each(:names) as asked
left join mainstay_stream as stream
    on stream.category = json_extract(asked.value, '$[0]')
    and stream.tenant_id = json_extract(asked.value, '$[1]')
    and stream.id = json_extract(asked.value, '$[2]')
order by asked.key;

-- name: events_there
-- Which events stand in parts of streams: [[number, first version, last version], ...].
select event.stream, event.version, event.event_id, event.position
from json_each(:windows) as part
join mainstay_event as event
    on event.stream = json_extract(part.value, '$[0]')
    and event.version between json_extract(part.value, '$[1]') and json_extract(part.value, '$[2]');

-- name: add_stream
-- A stream, or its new version.
insert into mainstay_stream (number, category, tenant_id, id, version, created_at) values (?, ?, ?, ?, ?, ?)
on conflict (number) do update set version = excluded.version;

-- name: add_event
-- An event.
insert into mainstay_event (
    position, stream, version, recorded_at, event_id, event_type, event_version, occurred_at, payload, correlation_id,
    causation_id, actor_id, metadata, tags
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_tag
-- A tag of an event.
insert into mainstay_event_tag (tag, position) values (?, ?);

-- name: read_stream
-- A part of one stream, forwards. A row without a position stands for a stream of which nothing was asked for.
select
    event.position, stream.category, stream.tenant_id, stream.id, event.version, event.recorded_at,
    stream.is_tombstoned, event.event_id, event.event_type, event.event_version, event.occurred_at, event.payload,
    event.correlation_id, event.causation_id, event.actor_id, event.metadata, event.tags
from mainstay_stream as stream
left join mainstay_event as event
    on event.stream = stream.number
    and event.version > :after_version
    and event.version <= :up_to_version
    and event.recorded_at <= :up_to_time
where stream.category = :category and stream.tenant_id = :tenant_id and stream.id = :id
order by event.version
limit :limit;

-- name: read_stream_backwards
-- The same, the latest first.
select
    event.position, stream.category, stream.tenant_id, stream.id, event.version, event.recorded_at,
    stream.is_tombstoned, event.event_id, event.event_type, event.event_version, event.occurred_at, event.payload,
    event.correlation_id, event.causation_id, event.actor_id, event.metadata, event.tags
from mainstay_stream as stream
left join mainstay_event as event
    on event.stream = stream.number
    and event.version > :after_version
    and event.version <= :up_to_version
    and event.recorded_at <= :up_to_time
where stream.category = :category and stream.tenant_id = :tenant_id and stream.id = :id
order by event.version desc
limit :limit;

-- name: read_streams
-- All events after a version of several streams: [[category, tenant, id, after], ...].
select
    event.position, stream.category, stream.tenant_id, stream.id, event.version, event.recorded_at,
    stream.is_tombstoned, event.event_id, event.event_type, event.event_version, event.occurred_at, event.payload,
    event.correlation_id, event.causation_id, event.actor_id, event.metadata, event.tags
from json_each(:names) as asked
join mainstay_stream as stream
    on stream.category = json_extract(asked.value, '$[0]')
    and stream.tenant_id = json_extract(asked.value, '$[1]')
    and stream.id = json_extract(asked.value, '$[2]')
left join mainstay_event as event
    on event.stream = stream.number
    and event.version > json_extract(asked.value, '$[3]')
order by asked.key, event.version;

-- name: read_feed
-- A page of the feed. What is not asked for is null; a query is [[[type, ...], [tag, ...]], ...].
select * from mainstay_recorded as event
where position > :after
    and position <= :horizon
    and (:types is null or event_type in (select value from json_each(:types)))
    and (:categories is null or category in (select value from json_each(:categories)))
    and (:tenant_id is null or tenant_id = :tenant_id)
    and (:archived or not is_archived)
    and (:query is null or exists (
        select 1 from json_each(:query) as item
        where (
            json_array_length(item.value, '$[0]') = 0
            or event_type in (select value from json_each(item.value, '$[0]'))
        )
        and not exists (
            select 1 from json_each(item.value, '$[1]') as tag
            where not exists (
                select 1 from mainstay_event_tag as its where its.tag = tag.value and its.position = event.position
            )
        )
    ))
order by position
limit :limit;

-- name: read_feed_by_tags
-- The same, led by tags of which each wanted event has one at least: what has none of them is not even looked at.
select * from mainstay_recorded as event
where position in (
        select led.position from mainstay_event_tag as led
        where led.tag in (select value from json_each(:led_by))
            and led.position > :after
            and led.position <= :horizon
    )
    and (:types is null or event_type in (select value from json_each(:types)))
    and (:categories is null or category in (select value from json_each(:categories)))
    and (:tenant_id is null or tenant_id = :tenant_id)
    and (:archived or not is_archived)
    and exists (
        select 1 from json_each(:query) as item
        where (
            json_array_length(item.value, '$[0]') = 0
            or event_type in (select value from json_each(item.value, '$[0]'))
        )
        and not exists (
            select 1 from json_each(item.value, '$[1]') as tag
            where not exists (
                select 1 from mainstay_event_tag as its where its.tag = tag.value and its.position = event.position
            )
        )
    )
order by position
limit :limit;

-- name: event_at
-- The event at a position.
select * from mainstay_recorded where position = ?;

-- name: conversation
-- The events of conversations, in order; a look through all of them.
select * from mainstay_recorded
where hex(coalesce(correlation_id, event_id)) in (select value from json_each(?))
order by position
limit ?;

-- name: event_known_as
-- The event with an id; a look through all of them.
select * from mainstay_recorded where event_id = ? order by position limit 1;

-- name: list_streams
-- A page of streams.
select category, tenant_id, id, version, created_at, is_archived, is_tombstoned, reason, actor
from mainstay_stream
where (:category is null or category = :category)
    and (:tenant_id is null or tenant_id = :tenant_id)
    and id >= :prefix and id < :prefix || char(1114111)
    and (:after_category is null or (category, tenant_id, id) > (:after_category, :after_tenant_id, :after_id))
order by category, tenant_id, id
limit :limit;

-- name: set_archived
-- Close a stream, or open it again.
update mainstay_stream set is_archived = ? where number = ?;

-- name: set_tombstone
-- Close a stream for good.
update mainstay_stream set is_tombstoned = 1, reason = ?, actor = ? where number = ?;

-- name: empty_events
-- Take out what the events of a tombstoned stream say.
update mainstay_event set payload = '{}', metadata = null, tags = null where stream = ?;

-- name: drop_tags
-- Take out what they can be found by.
delete from mainstay_event_tag
where (tag, position) in (
    select tag.value, event.position from mainstay_event as event, json_each(event.tags) as tag where event.stream = ?
);
