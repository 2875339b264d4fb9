-- name: prepare
-- The table, made by one at a time; the index is for pruning and costs an insert next to nothing.
select pg_catalog.pg_advisory_xact_lock(5643203471512);
create table if not exists mainstay_inbox (
    consumer text not null,
    message_id uuid not null,
    taken_at timestamptz not null default now(),
    primary key (consumer, message_id)
);
create index if not exists mainstay_inbox_taken_at on mainstay_inbox using brin (taken_at);

-- name: take
-- Remember a message: a row if it is the first time. Waits for a transaction that takes the same one.
insert into mainstay_inbox (consumer, message_id) values (%(consumer)s, %(message_id)s)
on conflict do nothing
returning true;

-- name: prune
-- Forget a batch of what is old; how many.
with forgotten as (
    delete from mainstay_inbox
    where ctid = any (array(
        select i.ctid from mainstay_inbox as i
        where i.consumer = %(consumer)s and i.taken_at < now() - make_interval(secs => %(seconds)s)
        limit %(batch)s))
        and consumer = %(consumer)s and taken_at < now() - make_interval(secs => %(seconds)s)
    returning 1)
select count(*)::integer from forgotten;
