-- name: set_limit
-- Set all limits of a command type.
select commandbus.set_limit(
    %(domain)s, %(command_type)s, %(max_running)s, %(per)s, %(max_running_per)s, %(rate)s, %(per_seconds)s, %(burst)s);

-- name: remove_limit
-- Take the limits of a command type away; whether there were any.
select commandbus.remove_limit(%(domain)s, %(command_type)s);

-- name: list_limits
-- The limits of command types, what runs under each and what waits for it, which is counted once for all.
with waiting as (
    select p.domain, p.command_type, count(*) as commands from commandbus.parked as p
    where p.held_by is null and (%(domain)s::text is null or p.domain = %(domain)s)
    group by p.domain, p.command_type
)
select
    g.domain, g.command_type, g.max_running, g.per, g.max_running_per, g.rate, g.per_seconds, g.burst,
    (
        select count(*)
        from commandbus.running_slot as s
        join commandbus.command as c on c.command_id = s.command_id and c.domain = s.domain
        where s.domain = g.domain and s.command_type = g.command_type
          and commandbus.holds_slot(c.status, c.lease_no, s.lease_no)
    ) as running,
    coalesce(w.commands, 0) as parked
from commandbus.gate as g
left join waiting as w on w.domain = g.domain and w.command_type = g.command_type
where (%(domain)s::text is null or g.domain = %(domain)s)
  and (g.max_running is not null or g.per is not null or g.rate is not null)
order by g.domain, g.command_type;

-- name: pause
-- Start no more commands of a domain, or of one type; false if it was paused already.
select commandbus.pause(%(domain)s, %(command_type)s, %(operator)s, %(reason)s);

-- name: resume
-- Start commands again; false if it was not paused.
select commandbus.resume(%(domain)s, %(command_type)s);

-- name: list_pauses
-- What is paused, and what waits for it.
with waiting as (
    select p.domain, p.command_type, count(*) as commands from commandbus.parked as p
    where p.held_by is null and (%(domain)s::text is null or p.domain = %(domain)s)
    group by p.domain, p.command_type
)
select
    g.domain, nullif(g.command_type, '') as command_type, g.paused_at as since, g.paused_by as operator, g.pause_reason as reason,
    coalesce(w.commands, 0) as parked
from commandbus.gate as g
left join waiting as w on w.domain = g.domain and w.command_type = g.command_type
where (%(domain)s::text is null or g.domain = %(domain)s) and g.paused_at is not null
order by g.domain, g.command_type;
