-- name: set_rule
-- Give a command type breakers.
select commandbus.set_breaker(
    %(domain)s, %(command_type)s, %(failures)s, %(within)s, %(probe_after)s, %(drip)s, %(operator)s);

-- name: remove_rule
-- Take the breakers of a command type away; whether it had any.
select commandbus.remove_breaker(%(domain)s, %(command_type)s, %(operator)s);

-- name: list_rules
-- Which command types have breakers.
select r.domain, r.command_type, r.failures, r.within, r.probe_after, r.drip
from commandbus.breaker_rule as r
where (%(domain)s::text is null or r.domain = %(domain)s) and r.failures is not null
order by r.domain, r.command_type;

-- name: list_breakers
-- Breakers that are open or closing.
select
    b.domain, b.command_type, b.fingerprint, b.state, b.since, b.probe_id, b.failed_probes, b.next_at, b.example_message,
    (
        select count(*) from commandbus.parked as p
        where p.domain = b.domain and p.command_type = b.command_type and p.held_by = b.fingerprint
    ) as parked
from commandbus.breaker as b
where %(domain)s::text is null or b.domain = %(domain)s
order by b.domain, b.command_type, b.fingerprint;

-- name: open
-- Open a breaker by hand; false if it is open, or if the type has none.
select commandbus.open_breaker(%(domain)s, %(command_type)s, %(fingerprint)s, %(operator)s, %(reason)s);

-- name: close
-- Close a breaker by hand; false if there is none.
select commandbus.close_breaker(%(domain)s, %(command_type)s, %(fingerprint)s, %(operator)s, %(reason)s);

-- name: list_events
-- What happened to rules and breakers, newest first.
select e.at, e.domain, e.command_type, e.fingerprint, e.event_type, e.operator, e.reason, e.details
from commandbus.breaker_event as e
where %(domain)s::text is null or e.domain = %(domain)s
order by e.event_id desc
limit %(limit)s;
