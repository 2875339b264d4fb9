-- breaking: no
-- Projections: how far each subscription has come, who is at it, and the events that lie apart.

create schema if not exists eventsource;

create table eventsource.subscription (
    subscription  text         collate "C" constraint subscription_pkey primary key,
    shards        integer      not null,
    version       integer      not null default 1,
    generation    integer      not null default 1,
    wanted        text[],
    created_at    timestamptz  not null default clock_timestamp()
);

comment on column eventsource.subscription.version is 'Of the projection that built the tables: code of another version leaves them alone.';
comment on column eventsource.subscription.generation is 'How often the tables were built.';

comment on column eventsource.subscription.wanted is 'The types of events that its projection asked for when it was last started; null: all.';

-- A row is updated once for each batch of events, and nothing that changes is indexed: room for the next version beside it.
create table eventsource.shard (
    subscription    text         collate "C" not null
        constraint shard_of_subscription references eventsource.subscription on delete cascade,
    shard           integer      not null,
    status          text         not null default 'ACTIVE'
        constraint shard_status check (status in ('ACTIVE', 'PAUSED', 'STOPPED')),
    position        bigint       not null,
    epoch           uuid,
    event_id        uuid,
    event_position  bigint       not null,
    owner           text,
    token           bigint       not null default 0,
    leased_until    timestamptz,
    moved_at        timestamptz,
    reason          text,
    actor           text,
    constraint shard_pkey primary key (subscription, shard)
) with (fillfactor = 20, autovacuum_vacuum_threshold = 1000);

comment on column eventsource.shard.token is 'Grows with every claim: who has a lower one has lost the shard.';
comment on column eventsource.shard.event_id is 'The last event that was handled, and stands at event_position: what the checkpoint is verified with.';

create table eventsource.dead_letter (
    subscription  text         collate "C" not null
        constraint dead_letter_of_subscription references eventsource.subscription on delete cascade,
    position      bigint       not null,
    shard         integer      not null,
    event_id      uuid         not null,
    event_type    text         not null,
    key           text         collate "C" not null,
    error         text,
    error_type    text,
    attempts      integer      not null,
    created_at    timestamptz  not null default clock_timestamp(),
    status        text         not null default 'WAITING'
        constraint dead_letter_status check (status in ('WAITING', 'HANDLED', 'DISCARDED')),
    actor         text,
    reason        text,
    settled_at    timestamptz,
    constraint dead_letter_pkey primary key (subscription, position)
);

-- What blocks a key.
create index dead_letter_waiting on eventsource.dead_letter (subscription, shard, key) where status = 'WAITING';

comment on column eventsource.dead_letter.error is 'Null: it only waits behind an earlier one of its key.';
