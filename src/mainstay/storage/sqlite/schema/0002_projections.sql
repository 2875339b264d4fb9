-- Run as a whole, or not at all: who comes second finds the tables, rolls back, and uses them.
begin immediate;

create table if not exists mainstay_schema (
    part text primary key,
    version integer not null
) strict;

-- Subscriptions: who reads the feed, in how many shards.
create table mainstay_subscription (
    subscription text primary key,
    shards integer not null,
    version integer not null default 1,  -- of the projection that built the tables
    generation integer not null default 1,  -- how often they were built
    wanted text,  -- the types of events that its projection asked for when it was last started, as JSON; null: all
    created_at integer not null  -- microseconds since 1970, as all times
) strict, without rowid;

-- How far each shard has come, and who is at it. The token grows with every claim: who has a lower one has lost the
-- shard. The checkpoint is verified with event_id, which stands at event_position.
create table mainstay_shard (
    subscription text not null references mainstay_subscription,
    shard integer not null,
    status text not null default 'ACTIVE' check (status in ('ACTIVE', 'PAUSED', 'STOPPED')),
    position integer not null,
    epoch blob,
    event_id blob,
    event_position integer not null,
    owner text,
    token integer not null default 0,
    leased_until integer,
    moved_at integer,
    reason text,
    actor text,
    primary key (subscription, shard)
) strict, without rowid;

-- Events that lie apart. Without an error one only waits behind an earlier one of its key.
create table mainstay_dead_letter (
    subscription text not null references mainstay_subscription,
    position integer not null,
    shard integer not null,
    event_id blob not null,
    event_type text not null,
    key text not null,
    error text,
    error_type text,
    attempts integer not null,
    created_at integer not null,
    status text not null default 'WAITING' check (status in ('WAITING', 'HANDLED', 'DISCARDED')),
    actor text,
    reason text,
    settled_at integer,
    primary key (subscription, position)
) strict, without rowid;

-- What blocks a key.
create index mainstay_dead_letter_waiting on mainstay_dead_letter (subscription, shard, key) where status = 'WAITING';

insert into mainstay_schema values ('projections', 1);

commit;
