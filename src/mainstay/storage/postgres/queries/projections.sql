-- name: register
-- Make a subscription known; says how many shards it has, and its version.
select shards, version from eventsource.register_subscription(
    %(subscription)s, %(shards)s, %(version)s, %(position)s, %(epoch)s, %(event_id)s, %(event_position)s);

-- name: note_rebuild
-- The operators' trail tells that a rebuild was begun, by whom.
select commandbus.note_deed(
    'PROJECTION', %(subscription)s, 'REBUILD_BEGUN',
    jsonb_build_object('shards', %(shards)s::integer, 'version', %(version)s::integer), %(actor)s);

-- name: wanted
-- Which types of events a subscription wants; no row if it wants all, or is not known.
select s.wanted from eventsource.subscription as s where s.subscription = %(subscription)s and s.wanted is not null;

-- name: want
-- Note which types of events a subscription wants.
select from eventsource.want_types(%(subscription)s, %(types)s::text[]);

-- name: claim
-- Take shards that are free.
select shard, shards, token, position, epoch, event_id, event_position, dead_letters
from eventsource.claim_shards(%(subscription)s, %(owner)s, %(seconds)s, %(most)s, %(version)s);

-- name: renew
-- Prolong leases; the shards that are still ours.
select eventsource.renew_shards(%(subscription)s, %(shards)s, %(tokens)s, %(seconds)s) as shard;

-- name: release
-- Give shards back.
select eventsource.release_shards(%(subscription)s, %(shards)s, %(tokens)s);

-- name: begin_batch
-- Hold a shard for the rest of the transaction.
select shard, position, epoch, event_id, event_position
from eventsource.begin_batch(%(subscription)s, %(shard)s, %(token)s);

-- name: borrow
-- Hold a shard for the rest of the transaction, whoever owns it.
select shard, position, epoch, event_id, event_position
from eventsource.shard where subscription = %(subscription)s and shard = %(shard)s for update;

-- name: advance
-- Move the checkpoint of a shard that is held.
update eventsource.shard
set position = %(position)s, epoch = %(epoch)s, event_id = %(event_id)s, event_position = %(event_position)s,
    moved_at = clock_timestamp()
where subscription = %(subscription)s and shard = %(shard)s;

-- name: blocked
-- Which of these keys have dead letters that wait.
select distinct key from eventsource.dead_letter
where subscription = %(subscription)s and shard = %(shard)s and key = any (%(keys)s) and status = 'WAITING';

-- name: lay_down
-- Lay events apart.
select eventsource.lay_down(%(subscription)s, %(shard)s, %(letters)s::jsonb);

-- name: settle
-- Say what became of dead letters that waited.
update eventsource.dead_letter
set status = %(status)s, actor = %(actor)s, reason = %(reason)s, settled_at = clock_timestamp()
where subscription = %(subscription)s and position = any (%(positions)s) and status = 'WAITING';

-- name: tried
-- A dead letter was tried once more and failed.
update eventsource.dead_letter
set attempts = attempts + 1, error = %(error)s, error_type = %(error_type)s
where subscription = %(subscription)s and position = %(position)s;

-- name: stop
-- Stop a shard because of an error.
select eventsource.stop_shard(%(subscription)s, %(shard)s, %(token)s, %(reason)s);

-- name: pause
-- Pause a subscription; null if there is none.
select eventsource.pause_subscription(%(subscription)s, %(actor)s, %(reason)s);

-- name: resume
-- Let a subscription go on; null if there is none.
select eventsource.resume_subscription(%(subscription)s, %(actor)s);

-- name: reset
-- Move a subscription to a checkpoint; null if there is none.
select eventsource.reset_subscription(
    %(subscription)s, %(actor)s, %(position)s, %(epoch)s, %(event_id)s, %(event_position)s);

-- name: forget
-- Remove a subscription.
select eventsource.forget_subscription(%(subscription)s);

-- name: states
-- What is known of all shards, or of one subscription's.
select s.subscription, s.shard, n.shards, s.status, s.position, s.epoch, s.event_id, s.event_position,
    s.owner, s.leased_until, s.moved_at, s.reason, s.actor, n.version, n.generation,
    (select count(*) from eventsource.dead_letter as d
     where d.subscription = s.subscription and d.shard = s.shard and d.status = 'WAITING') as dead_letters
from eventsource.shard as s
join eventsource.subscription as n using (subscription)
where %(subscription)s::text is null or s.subscription = %(subscription)s
order by s.subscription, s.shard;

-- name: dead_letters
-- A page of dead letters by position.
select subscription, shard, position, event_id, event_type, key, error, error_type, attempts, created_at, status,
    actor, reason
from eventsource.list_dead_letters(
    %(subscription)s::text, %(key)s::text, %(status)s::text, %(after)s::bigint, %(limit)s::integer);

-- name: hold
-- Hold a subscription with its shards for the rest of the transaction; whether there is one.
select eventsource.hold_subscription(%(subscription)s);

-- name: swap
-- Let the shards of a rebuild be those of a subscription that is held, too; how many dead letters that settles.
select eventsource.swap_subscription(%(subscription)s, %(rebuild)s, %(actor)s);

-- name: create_beside
-- Make an empty table of the form of another.
select eventsource.create_beside(%(table)s, %(beside)s);

-- name: compare_tables
-- What differs between two tables.
select eventsource.compare_tables(%(table)s, %(beside)s, %(left_out)s, %(sample)s) as difference;

-- name: swap_tables
-- Let new tables have the names of old ones.
select eventsource.swap_tables(%(tables)s::text[], %(besides)s::text[], %(kept)s::text[]);

-- name: drop_tables
-- Drop tables, as far as they are there.
select eventsource.drop_tables(%(tables)s::text[]);

-- name: written
-- Which of these tables this transaction has written to: it holds the lock that writing takes.
select t as "table" from unnest(%(tables)s::text[]) as t
where exists (
    select from pg_locks as l
    where l.locktype = 'relation' and l.pid = pg_backend_pid() and l.relation = to_regclass(t)
        and l.database = (select d.oid from pg_database as d where d.datname = current_database())
        and l.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'));
