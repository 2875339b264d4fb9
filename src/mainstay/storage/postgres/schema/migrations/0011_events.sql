-- breaking: no
-- Events: streams, the events in them, what finds events by type and tag, and how far the feed can be read.
--
-- An event costs three index entries, and one for each tag. What is the same for many events (whose stream it is, its category and
-- type) is written once, in stream and kind. Events are only ever inserted, and only by eventsource.append and prepare_import:
-- what the feed promises rests on the order of their steps. See eventsource.hold_floor.

create schema if not exists eventsource;

-- Positions of events. With a cache, sessions would give out numbers of old long after they were drawn.
create sequence eventsource.event_position as bigint cache 1;

create table eventsource.stream (
    stream_no      bigint       generated always as identity constraint stream_pkey primary key,
    category       text         collate "C" not null,
    tenant_id      text         collate "C" not null default '',
    stream_id      text         collate "C" not null,
    version        integer      not null default 0,
    created_at     timestamptz,
    archived_at    timestamptz,
    tombstoned_at  timestamptz,
    tombstone      jsonb,
    constraint stream_name_key unique (category, tenant_id, stream_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

comment on column eventsource.stream.tenant_id is 'Empty: no tenant.';
comment on column eventsource.stream.version is 'How many events it has. With none it stands only to be locked, for an append that states that it was never written.';
comment on column eventsource.stream.tombstone is 'Who emptied it, and why: {actor, reason}.';

-- A type of event in a category of streams. Two transactions that use one for the first time at the same time each make a row, so that neither
-- waits for the other; both numbers stay in use, and whoever looks for the kind looks for both.
create table eventsource.kind (
    kind_no     integer  generated always as identity constraint kind_pkey primary key,
    category    text     collate "C" not null,
    event_type  text     collate "C" not null
);

create index kind_name on eventsource.kind (category, event_type);

create table eventsource.event (
    position        bigint       not null constraint event_pkey primary key,
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
    constraint event_version_key unique (stream_no, version)
) with (autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05);

create index event_kind on eventsource.event (kind_no, position);

comment on column eventsource.event.event_version is 'Of the payload''s form.';
comment on column eventsource.event.payload is 'Null: its stream is tombstoned.';

create table eventsource.event_tag (
    tag       text    collate "C" not null,
    position  bigint  not null,
    constraint event_tag_pkey primary key (tag, position)
) with (autovacuum_vacuum_insert_scale_factor = 0.1);

-- How far the feed can be read, as it was last published: for replicas, which cannot know better. See eventsource.publish_horizon.
create table eventsource.feed_horizon (
    only_one  boolean      not null default true
        constraint feed_horizon_pkey primary key constraint feed_horizon_is_one check (only_one),
    epoch     uuid         not null default gen_random_uuid(),
    position  bigint       not null default 0,
    holder    text,
    until     timestamptz
) with (fillfactor = 10, autovacuum_vacuum_threshold = 1000);

comment on column eventsource.feed_horizon.epoch is 'Which history the positions belong to. Drawn anew when positions may have been given out twice.';
comment on column eventsource.feed_horizon.holder is 'Who publishes, until the time beside it.';

insert into eventsource.feed_horizon default values;

-- Events are immutable. What may empty one says so by a setting of its own function.
create function eventsource.refuse_change()
returns trigger
language plpgsql
as $$
begin
    if tg_op = 'TRUNCATE' and coalesce(current_setting('mainstay.may_empty', true), '') = 'on' then
        return null;
    elsif tg_op = 'UPDATE' and coalesce(current_setting('mainstay.may_empty', true), '') = 'on'
       and new.payload is null and new.metadata is null and new.tags is null
       and (new.position, new.stream_no, new.version, new.kind_no, new.event_version, new.event_id, new.recorded_at)
         = (old.position, old.stream_no, old.version, old.kind_no, old.event_version, old.event_id, old.recorded_at)
    then
        return new;
    end if;
    raise exception 'events are never changed or removed' using
        errcode = 'object_not_in_prerequisite_state',
        hint = 'Append an event that says what is so now; to empty a whole stream for good, call eventsource.tombstone.';
end;
$$;

create trigger event_immutable before update or delete on eventsource.event
    for each row execute function eventsource.refuse_change();
create trigger event_kept before truncate on eventsource.event
    for each statement execute function eventsource.refuse_change();
