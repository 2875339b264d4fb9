-- name: traffic
-- What happened to commands between two times.
select t.sent, t.completed, t.failed, t.retried, t.waits, t.handlings
from commandbus.traffic(%(since)s, %(until)s, %(samples)s) as t;

-- name: list_workers
-- The workers that are alive, and what they handle.
select w.worker, w.domain, w.asleep_until, w.command_id, w.command_type, w.attempt, w.since, w.leased_until
from commandbus.list_workers(%(depth)s) as w
order by w.worker, w.domain, w.since;
