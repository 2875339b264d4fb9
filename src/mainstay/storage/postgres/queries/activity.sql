-- name: traffic
-- What happened to commands between two times.
select t.sent, t.completed, t.failed, t.retried, t.waits, t.handlings
from commandbus.traffic(%(since)s, %(until)s, %(samples)s) as t;

-- name: settled_before
-- The time before which all is written that ever will be: when the oldest transaction began that writes, or now. What another role does may be hidden, and then
-- is taken for old; what is prepared is.
select least(
    clock_timestamp(),
    (select min(coalesce(a.xact_start, 'epoch')) from pg_catalog.pg_stat_activity as a
     where a.datname = current_database() and a.backend_xid is not null),
    (select 'epoch'::timestamptz from pg_catalog.pg_prepared_xacts as p where p.database = current_database() limit 1)
) as settled_before;

-- name: list_workers
-- The workers that are alive, and what they handle.
select w.worker, w.domain, w.asleep_until, w.command_id, w.command_type, w.attempt, w.since, w.leased_until
from commandbus.list_workers(%(depth)s) as w
order by w.worker, w.domain, w.since;
