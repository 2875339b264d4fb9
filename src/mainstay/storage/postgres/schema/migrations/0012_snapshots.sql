-- breaking: no
-- Snapshots of aggregates: a cache. Nothing refers to it, and whatever is lost here is made again from events.

create table eventsource.snapshot (
    category    text         collate "C" not null,
    tenant_id   text         collate "C" not null,
    stream_id   text         collate "C" not null,
    version     integer      not null,
    event_id    uuid         not null,
    schema      text         not null,
    state       text         not null,
    taken_at    timestamptz  not null default now(),
    constraint snapshot_pkey primary key (category, tenant_id, stream_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

comment on column eventsource.snapshot.tenant_id is 'Empty: no tenant.';
comment on column eventsource.snapshot.event_id is 'Of the event that it was taken after; loading looks whether that is still there.';
comment on column eventsource.snapshot.schema is 'Of the state. A snapshot of another schema is ignored.';
