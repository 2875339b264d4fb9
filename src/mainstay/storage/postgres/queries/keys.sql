-- What operators ask about keys.

-- name: list_keys
-- Keys with a head or with commands that wait, the longest waiting head first.
with heads as (
    select h.domain, h.key, h.command_id, h.since from commandbus.key_head as h
    where (%(domain)s::text is null or h.domain = %(domain)s) and (%(key)s::text is null or h.key = %(key)s)
), waiting as (
    select k.domain, k.key, count(*) as commands from commandbus.keyed as k
    where (%(domain)s::text is null or k.domain = %(domain)s) and (%(key)s::text is null or k.key = %(key)s)
    group by k.domain, k.key
)
select
    coalesce(h.domain, w.domain) as domain, coalesce(h.key, w.key) as key, coalesce(w.commands, 0) as waiting,
    h.command_id as head, c.status as head_status, h.since, c.due_at, c.error_code, p.command_id is not null as is_held
from heads as h
full join waiting as w on w.domain = h.domain and w.key = h.key
left join commandbus.command as c on c.command_id = h.command_id and c.domain = h.domain
left join commandbus.parked as p on p.command_id = h.command_id and p.domain = h.domain and p.held_by is not null
order by h.since, coalesce(h.domain, w.domain), coalesce(h.key, w.key)
limit %(limit)s offset %(offset)s;

-- name: list_blocked_keys
-- Keys whose head waits for an operator, for its next attempt or for a breaker, the longest waiting head first. What waits stands in tables of its own,
-- so only the commands that are shown are read, and only what waits behind them is counted.
with heads as (
    select h.domain, h.key, h.since, c.command_id, c.status, c.due_at, c.error_code, p.command_id is not null as is_held
    from commandbus.key_head as h
    join commandbus.command as c on c.command_id = h.command_id and c.domain = h.domain
    left join commandbus.parked as p on p.command_id = h.command_id and p.domain = h.domain and p.held_by is not null
    where (%(domain)s::text is null or h.domain = %(domain)s) and (%(key)s::text is null or h.key = %(key)s)
      and (h.command_id, h.domain) in (
          select t.command_id, t.domain from commandbus.troubleshooting as t
          union all
          select d.command_id, d.domain from commandbus.deferred as d
          union all
          select b.command_id, b.domain from commandbus.parked as b where b.held_by is not null
      )
      and (c.status = 'IN_TROUBLESHOOTING_QUEUE' or (c.status = 'PENDING' and c.due_at is not null) or p.command_id is not null)
    order by h.since, h.domain, h.key
    limit %(limit)s offset %(offset)s
)
select
    h.domain, h.key, (select count(*) from commandbus.keyed as k where k.domain = h.domain and k.key = h.key) as waiting,
    h.command_id as head, h.status as head_status, h.since, h.due_at, h.error_code, h.is_held
from heads as h
order by h.since, h.domain, h.key;

-- name: release_key
-- Let a key go on without its head.
select command_id, status, is_released from commandbus.release_key(%(domain)s, %(key)s, %(operator)s, %(reason)s);
