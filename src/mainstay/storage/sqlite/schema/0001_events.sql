-- Run as a whole, or not at all: who comes second finds the tables, rolls back, and uses them.
begin immediate;

-- Which parts of mainstay are in this file, and in which version each.
create table if not exists mainstay_schema (
    part text primary key,
    version integer not null
) strict;

-- Streams. No tenant is the empty text, which no tenant's id can be; the key lists them by code points.
create table mainstay_stream (
    number integer primary key,
    category text not null,
    tenant_id text not null,
    id text not null,
    version integer not null,
    created_at integer not null,  -- microseconds since 1970, as all times
    is_archived integer not null default 0,
    is_tombstoned integer not null default 0,
    reason text,
    actor text,
    unique (category, tenant_id, id)
) strict;

-- Events. `autoincrement` keeps a position from being given out again, whatever is deleted by hand.
create table mainstay_event (
    position integer primary key autoincrement,
    stream integer not null references mainstay_stream,
    version integer not null,
    recorded_at integer not null,
    event_id blob not null,
    event_type text not null,
    event_version integer not null,
    occurred_at integer not null,
    payload text not null,
    correlation_id blob,
    causation_id blob,
    actor_id text,
    metadata text,
    tags text,
    unique (stream, version)
) strict;

-- What queries ask for: the tags of events. One tag's events come in the order of the feed.
create table mainstay_event_tag (
    tag text not null,
    position integer not null references mainstay_event,
    primary key (tag, position)
) strict, without rowid;

-- Which history the positions belong to.
create table mainstay_feed (
    only_one integer primary key check (only_one = 1),
    epoch text not null
) strict;

-- Snapshots of aggregates: a cache, which nothing refers to.
create table mainstay_snapshot (
    category text not null,
    tenant_id text not null,
    id text not null,
    version integer not null,
    event_id blob not null,
    schema text not null,
    state text not null,
    primary key (category, tenant_id, id)
) strict, without rowid;

-- An event as it is read.
create view mainstay_recorded as
select
    event.position, stream.category, stream.tenant_id, stream.id, event.version, event.recorded_at,
    stream.is_tombstoned, event.event_id, event.event_type, event.event_version, event.occurred_at, event.payload,
    event.correlation_id, event.causation_id, event.actor_id, event.metadata, event.tags, stream.is_archived
from mainstay_event as event
join mainstay_stream as stream on stream.number = event.stream;

create trigger mainstay_event_stays before delete on mainstay_event
begin
    select raise(abort, 'events are never deleted');
end;

create trigger mainstay_event_is_as_it_was before update on mainstay_event
when not (
    new.payload = '{}' and new.metadata is null and new.tags is null
    and (new.position, new.stream, new.version, new.event_id, new.event_type)
      = (old.position, old.stream, old.version, old.event_id, old.event_type)
    and (select is_tombstoned from mainstay_stream where number = old.stream)
)
begin
    select raise(abort, 'events never change, unless their stream is tombstoned');
end;

insert into mainstay_feed values (1, lower(hex(randomblob(16))));

insert into mainstay_schema values ('events', 1);

commit;
