-- name: schema
create schema bench;
create table bench.event (
    position        bigint       generated always as identity primary key,
    stream_no       bigint       not null,
    version         integer      not null,
    kind_no         integer      not null,
    event_version   integer      not null,
    event_id        uuid         not null,
    recorded_at     timestamptz  not null,
    occurred_at     timestamptz  not null,
    correlation_id  uuid,
    causation_id    uuid,
    actor_id        text,
    payload         json,
    metadata        json,
    tags            text[],
    unique (stream_no, version)
);
create index event_kind on bench.event (kind_no, position);
create table bench.checkpoint (name text primary key, position bigint not null);
insert into bench.checkpoint values ('totals', 0);

-- name: append
insert into bench.event (stream_no, version, kind_no, event_version, event_id, recorded_at, occurred_at, payload)
values (%(stream)s, %(version)s, 1, 1, %(id)s, now(), %(at)s, %(payload)s::json);

-- name: append_many
insert into bench.event (stream_no, version, kind_no, event_version, event_id, recorded_at, occurred_at, payload)
select %(stream)s, %(version)s + e.n - 1, 1, 1, e.id, now(), %(at)s, e.payload::json
from unnest(%(ids)s::uuid[], %(payloads)s::text[]) with ordinality as e(id, payload, n);

-- name: read_stream
select e.position, e.version, e.recorded_at, e.event_id, e.occurred_at, e.correlation_id, e.causation_id, e.actor_id, e.payload
from bench.event as e where e.stream_no = %(stream)s order by e.version;

-- name: read_feed
select e.position, e.stream_no, e.version, e.recorded_at, e.event_id, e.occurred_at, e.correlation_id, e.causation_id, e.actor_id, e.payload
from bench.event as e where e.position > %(after)s order by e.position limit %(limit)s;

-- name: begin
select position from bench.checkpoint where name = 'totals' for update;

-- name: advance
update bench.checkpoint set position = %(position)s where name = 'totals';
