-- What operators ask about keys.

-- name: list_keys
-- Keys with a head or with commands that wait, the longest waiting head first; at the end those that have none, as no worker has looked for it yet. Only for
-- those that are shown the command is read and what waits behind it is counted. Keys without a head are looked for when the heads are at their end: one key
-- from domain to domain, all keys from one to the next in the index, until there are enough, however many commands wait for each.
with recursive heads as (
    select h.domain, h.key, h.command_id, h.since from commandbus.key_head as h
    where (%(domain)s::text is null or h.domain = %(domain)s) and (%(key)s::text is null or h.key = %(key)s)
    order by h.since, h.domain, h.key
    limit %(limit)s::bigint offset %(offset)s::bigint
), rest as materialized (
    select n.wanted, case when n.wanted < %(limit)s::bigint or n.wanted = 0 then 0 else greatest(0, %(offset)s::bigint - (
               select count(*) from commandbus.key_head as h
               where (%(domain)s::text is null or h.domain = %(domain)s) and (%(key)s::text is null or h.key = %(key)s))) end as passed
    from (select %(limit)s::bigint - count(*) as wanted from heads) as n
), each_domain as (
    (select min(k.domain) as domain from commandbus.keyed as k)
    union all
    select (select min(k.domain) from commandbus.keyed as k where k.domain > d.domain) from each_domain as d where d.domain is not null
), each_key as (
    (select k.domain, k.key, o.headless, o.headless::integer::bigint as found
     from (
         select k.domain, k.key from commandbus.keyed as k
         where k.domain >= coalesce(%(domain)s::text, '') and %(key)s::text is null and (select r.wanted from rest as r) > 0
         order by k.domain, k.key
         limit 1
     ) as k
     cross join lateral (
         select not exists (select from commandbus.key_head as h where h.key = k.key and h.domain = k.domain) as headless
     ) as o
     where %(domain)s::text is null or k.domain = %(domain)s)
    union all
    select n.domain, n.key, o.headless, f.found + o.headless::integer
    from each_key as f
    cross join lateral (
        select k.domain, k.key from commandbus.keyed as k where (k.domain, k.key) > (f.domain, f.key) order by k.domain, k.key limit 1
    ) as n
    cross join lateral (
        select not exists (select from commandbus.key_head as h where h.key = n.key and h.domain = n.domain) as headless
    ) as o
    where f.found < (select r.wanted + r.passed from rest as r) and (%(domain)s::text is null or n.domain = %(domain)s)
), headless as (
    select f.domain, f.key from each_key as f where f.headless
    union all
    select d.domain, %(key)s::text
    from (
        select %(domain)s::text as domain where %(domain)s::text is not null
        union all
        select e.domain from each_domain as e where %(domain)s::text is null and e.domain is not null
    ) as d
    where %(key)s::text is not null
      and exists (select from commandbus.keyed as k where k.domain = d.domain and k.key = %(key)s)
      and not exists (select from commandbus.key_head as h where h.key = %(key)s and h.domain = d.domain)
), page as (
    select h.domain, h.key, h.command_id, h.since from heads as h
    union all
    (select f.domain, f.key, null, null from headless as f
     order by f.domain, f.key
     limit (select r.wanted from rest as r) offset (select r.passed from rest as r))
)
select
    p.domain, p.key, (select count(*) from commandbus.keyed as k where k.domain = p.domain and k.key = p.key) as waiting,
    p.command_id as head, c.status as head_status, p.since, c.due_at, c.error_code, coalesce(c.is_held, false) as is_held
from page as p
left join lateral (
    select c.status, c.due_at, c.error_code,
           exists (select from commandbus.parked as b where b.command_id = c.command_id and b.domain = c.domain and b.held_by is not null) as is_held
    from commandbus.command as c
    where c.command_id = p.command_id and c.domain = p.domain
    offset 0
) as c on true
order by p.since, p.domain, p.key;

-- name: list_blocked_keys
-- Keys whose head waits for an operator, for its next attempt or for a breaker, the longest waiting head first. What waits stands in tables of its own,
-- so only the commands that are shown are read, and only what waits behind them is counted.
with heads as (
    select h.domain, h.key, h.since, h.command_id, c.status, c.due_at, c.error_code, c.is_held
    from (
        select h.domain, h.key, h.since, h.command_id from commandbus.key_head as h
        where (%(domain)s::text is null or h.domain = %(domain)s) and (%(key)s::text is null or h.key = %(key)s)
          and (h.command_id, h.domain) in (
              select t.command_id, t.domain from commandbus.troubleshooting as t
              union all
              select d.command_id, d.domain from commandbus.deferred as d
              union all
              select b.command_id, b.domain from commandbus.parked as b where b.held_by is not null
          )
        offset 0  -- of what waits, only heads are looked at
    ) as h
    cross join lateral (
        select c.status, c.due_at, c.error_code,
               exists (select from commandbus.parked as b where b.command_id = c.command_id and b.domain = c.domain and b.held_by is not null) as is_held
        from commandbus.command as c
        where c.command_id = h.command_id and c.domain = h.domain
        offset 0
    ) as c
    where c.status = 'IN_TROUBLESHOOTING_QUEUE' or (c.status = 'PENDING' and c.due_at is not null) or c.is_held
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
