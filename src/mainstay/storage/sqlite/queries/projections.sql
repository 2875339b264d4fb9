-- What subscriptions ask and do. Those that change something run in a transaction that began with BEGIN IMMEDIATE:
-- nobody else writes between two of them. Times are microseconds; claims come as JSON: [[shard, token], ...].

-- name: add_subscription
-- Make a subscription known, unless it is.
insert into mainstay_subscription (subscription, shards, version, created_at)
values (:subscription, :shards, :version, :now)
on conflict do nothing;

-- name: add_shards
-- Its shards, unless they are there.
insert into mainstay_shard (subscription, shard, position, epoch, event_id, event_position)
select :subscription, shard.value, :position, :epoch, :event_id, :event_position from json_each(:numbers) as shard
where true
on conflict do nothing;

-- name: shards_of
-- Into how many shards a subscription is dealt out, and its version; no row if it is not known.
select shards, version from mainstay_subscription where subscription = ?;

-- name: wanted
-- Which types of events a subscription wants, as JSON; no row if it wants all, or is not known.
select wanted from mainstay_subscription where subscription = ? and wanted is not null;

-- name: want
-- Note which types of events a subscription wants.
update mainstay_subscription set wanted = :types where subscription = :subscription;

-- name: free
-- How many shards could be claimed, and how many the owner has.
select
    count(*) filter (where status = 'ACTIVE' and (owner is null or leased_until <= :now)
        and :version = (select version from mainstay_subscription where subscription = :subscription)),
    count(*) filter (where owner = :owner and leased_until > :now)
from mainstay_shard
where subscription = :subscription;

-- name: claim
-- Take shards that are active and nobody's, or whose owner's lease has ended.
update mainstay_shard
set owner = :owner, leased_until = :until, token = token + 1
where subscription = :subscription
    and shard in (
        select free.shard from mainstay_shard as free
        where free.subscription = :subscription
            and free.status = 'ACTIVE'
            and :version = (select version from mainstay_subscription where subscription = :subscription)
            and (free.owner is null or free.leased_until <= :now)
        order by free.shard
        limit max(:most - (
            select count(*) from mainstay_shard as held
            where held.subscription = :subscription and held.owner = :owner and held.leased_until > :now
        ), 0)
    )
returning
    shard, token, position, epoch, event_id, event_position,
    (
        select shards from mainstay_subscription as its
        where its.subscription = mainstay_shard.subscription
    ),
    (
        select count(*) from mainstay_dead_letter as its
        where its.subscription = mainstay_shard.subscription
            and its.shard = mainstay_shard.shard
            and its.status = 'WAITING'
    );

-- name: renew
-- Prolong leases that are still the caller's, and active.
update mainstay_shard
set leased_until = :until
where subscription = :subscription
    and owner is not null
    and status = 'ACTIVE'
    and (shard, token) in (
        select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:claims)
    );

-- name: kept
-- Which shards are still the caller's, and active.
select shard from mainstay_shard
where subscription = :subscription
    and owner is not null
    and status = 'ACTIVE'
    and (shard, token) in (
        select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:claims)
    );

-- name: release
-- Give shards back; what is not the caller's any more is left alone.
update mainstay_shard
set owner = null, leased_until = null
where subscription = :subscription
    and (shard, token) in (
        select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:claims)
    );

-- name: begin_batch
-- Where a shard stands, if it is still the caller's. The lease's end is not looked at: as long as nobody has claimed
-- the shard it is the caller's, and nobody can until this transaction ends.
select position, epoch, event_id, event_position from mainstay_shard
where subscription = :subscription and shard = :shard and token = :token and owner is not null and status = 'ACTIVE';

-- name: borrow
-- Where a shard stands, whoever owns it.
select position, epoch, event_id, event_position from mainstay_shard
where subscription = :subscription and shard = :shard;

-- name: advance
-- Move the checkpoint of a shard.
update mainstay_shard
set position = :position, epoch = :epoch, event_id = :event_id, event_position = :event_position, moved_at = :now
where subscription = :subscription and shard = :shard;

-- name: blocked
-- Which of these keys have dead letters that wait.
select distinct key from mainstay_dead_letter
where subscription = :subscription
    and shard = :shard
    and key in (select value from json_each(:keys))
    and status = 'WAITING';

-- name: lay_down
-- Lay an event apart. One that lies there already and waits stays as it is; one that was settled waits again.
insert into mainstay_dead_letter as known (
    subscription, shard, position, event_id, event_type, key, error, error_type, attempts, created_at
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (subscription, position) do update
set shard = excluded.shard, event_id = excluded.event_id, event_type = excluded.event_type, key = excluded.key,
    error = excluded.error, error_type = excluded.error_type, attempts = excluded.attempts,
    created_at = excluded.created_at, status = 'WAITING', actor = null, reason = null, settled_at = null
where known.status <> 'WAITING';

-- name: settle
-- Say what became of dead letters that waited; gives their positions.
update mainstay_dead_letter
set status = :status, actor = :actor, reason = :reason, settled_at = :now
where subscription = :subscription
    and position in (select value from json_each(:positions))
    and status = 'WAITING'
returning position;

-- name: tried
-- A dead letter was tried once more and failed.
update mainstay_dead_letter
set attempts = attempts + 1, error = :error, error_type = :error_type
where subscription = :subscription and position = :position;

-- name: stop
-- Stop a shard because of an error, and give it back.
update mainstay_shard
set status = 'STOPPED', reason = :reason, actor = null, owner = null, leased_until = null
where subscription = :subscription and shard = :shard;

-- name: pause
-- Pause the shards that are active; gives them.
update mainstay_shard
set status = 'PAUSED', actor = :actor, reason = :reason, owner = null, leased_until = null
where subscription = :subscription and status = 'ACTIVE'
returning shard;

-- name: resume
-- Make paused and stopped shards active again; gives them.
update mainstay_shard
set status = 'ACTIVE', actor = :actor, reason = null
where subscription = :subscription and status <> 'ACTIVE'
returning shard;

-- name: reset
-- Move all shards to a checkpoint, taking them from whoever holds them.
update mainstay_shard
set position = :position, epoch = :epoch, event_id = :event_id, event_position = :event_position,
    owner = null, leased_until = null, token = token + 1, actor = :actor, moved_at = :now
where subscription = :subscription;

-- name: discard
-- Discard the dead letters behind a position that wait: their events come again.
update mainstay_dead_letter
set status = 'DISCARDED', actor = :actor, reason = 'reset', settled_at = :now
where subscription = :subscription and status = 'WAITING' and position > :position;

-- name: forget_letters
-- Remove the dead letters of a subscription.
delete from mainstay_dead_letter where subscription = ?;

-- name: forget_shards
-- Remove its shards.
delete from mainstay_shard where subscription = ?;

-- name: forget
-- Remove it.
delete from mainstay_subscription where subscription = ?;

-- name: states
-- What is known of all shards, or of one subscription's.
select
    shard.subscription, shard.shard, its.shards, shard.status, shard.position, shard.epoch, shard.event_id,
    shard.event_position, shard.owner, shard.leased_until, shard.moved_at, shard.reason, shard.actor,
    (
        select count(*) from mainstay_dead_letter as letter
        where letter.subscription = shard.subscription and letter.shard = shard.shard and letter.status = 'WAITING'
    ),
    its.version, its.generation
from mainstay_shard as shard
join mainstay_subscription as its on its.subscription = shard.subscription
where :subscription is null or shard.subscription = :subscription
order by shard.subscription, shard.shard;

-- name: dead_letters
-- A page of dead letters by position.
select
    subscription, shard, position, event_id, event_type, key, error, error_type, attempts, created_at, status, actor,
    reason
from mainstay_dead_letter
where subscription = :subscription
    and position > :after
    and (:key is null or key = :key)
    and (:status is null or status = :status)
order by position
limit :limit;

-- name: next_token
-- One above all that were given for the shards of two names.
select max(token) + 1 from mainstay_shard where subscription in (:subscription, :rebuild);

-- name: drop_doubles
-- Dead letters in whose place there are some of the rebuild's.
delete from mainstay_dead_letter
where subscription = :subscription
    and position in (select position from mainstay_dead_letter where subscription = :rebuild);

-- name: settle_rebuilt
-- Dead letters that waited, and were handled by a rebuild; gives their positions.
update mainstay_dead_letter
set status = 'HANDLED', actor = :actor, reason = 'rebuilt, without side effects', settled_at = :now
where subscription = :subscription and status = 'WAITING'
returning position;

-- name: move_letters
-- Let a rebuild's dead letters be the subscription's.
update mainstay_dead_letter set subscription = :subscription where subscription = :rebuild;

-- name: move_shards
-- Let a rebuild's shards be the subscription's, and nobody's.
update mainstay_shard
set subscription = :subscription, status = :status, token = :token, owner = null, leased_until = null,
    moved_at = :now, reason = :reason, actor = :actor
where subscription = :rebuild;

-- name: raise_generation
-- Let a subscription have the form that it was rebuilt in.
update mainstay_subscription
set generation = generation + 1,
    (shards, version) = (select built.shards, built.version from mainstay_subscription as built where built.subscription = :rebuild)
where subscription = :subscription;

-- name: made_by
-- The statements that made a table and its indexes; null for an index that belongs to a constraint.
select type, name, sql from sqlite_master where tbl_name = :table collate nocase and type in ('table', 'index');

-- name: columns
-- The columns of a table, but those that the database numbers by itself.
select col.name from pragma_table_info(:table) as col
where not (
    col.pk = 1
    and exists (
        select from_.sql from sqlite_master as from_
        where from_.name = :table collate nocase and from_.sql like '%autoincrement%'
    )
);

-- name: hanging
-- What may hang on a table and would not follow it: views and triggers, by their text, and foreign keys of others.
select type, name, sql from sqlite_master where type in ('view', 'trigger') and sql like :like
union all
select 'foreign key of', other.name, null
from sqlite_master as other
join pragma_foreign_key_list(other.name) as fk
where other.type = 'table' and fk."table" = :table collate nocase and other.name <> :table collate nocase;

-- name: indexes
-- The names of all indexes.
select name from sqlite_master where type = 'index';
