-- Batches and processes as operators turn their pages. A page begins after the last one of the page before, in an index, however deep it is.

-- name: batches
-- Batches, newest first; counts as in get_batch. The index is by domain, so each domain gives its newest, and the newest of all are taken.
with recursive each_domain as (
    (select min(b.domain) as domain from commandbus.batch as b)
    union all
    select (select min(b.domain) from commandbus.batch as b where b.domain > d.domain) from each_domain as d where d.domain is not null
), page as (
    select n.batch_id, n.domain, n.created_at
    from (
        select %(domain)s::text as domain where %(domain)s::text is not null
        union all
        select d.domain from each_domain as d where %(domain)s::text is null and d.domain is not null
    ) as asked
    cross join lateral (
        select b.batch_id, b.domain, b.created_at
        from commandbus.batch as b
        where b.domain = asked.domain
          and (%(status)s::text is null or b.status = %(status)s)
          and b.created_at <= coalesce(%(after_time)s::timestamptz, 'infinity')
          and (%(after_time)s::timestamptz is null or b.created_at < %(after_time)s
               or (b.batch_id, b.domain) > (%(after_id)s::uuid, %(after_domain)s::text))
        order by b.created_at desc, b.batch_id
        limit %(limit)s
    ) as n
    order by n.created_at desc, n.batch_id, n.domain
    limit %(limit)s
)
select c.* from page as p
join commandbus.counted_batch as c on c.batch_id = p.batch_id and c.domain = p.domain
order by c.created_at desc, c.batch_id, c.domain;

-- name: parts
-- The batches of a batch, newest first; counts as in get_batch.
with page as (
    select b.batch_id, b.domain
    from commandbus.batch as b
    where b.domain = %(domain)s and b.parent_id = %(parent_id)s
    order by b.created_at desc, b.batch_id
    limit %(limit)s
)
select c.* from page as p
join commandbus.counted_batch as c on c.batch_id = p.batch_id and c.domain = p.domain
order by c.created_at desc, c.batch_id;

-- name: waiting_in_batch
-- Commands of a batch that wait for an operator, the newest first, among those of its domain that came to it last.
select c.*
from (
    select t.command_id, t.domain from commandbus.troubleshooting as t where t.domain = %(domain)s order by t.since desc limit %(look)s
) as t
join commandbus.command as c on c.command_id = t.command_id and c.domain = t.domain
where c.batch_id = %(batch_id)s
order by c.created_at desc, c.command_id
limit %(limit)s;

-- name: failed_in_batch
-- Commands of a batch that failed for good, the newest first, among so many of its commands. They are read in the order of the index: asked for as
-- a range, or the planner would look for them in the whole table.
select c.*
from (
    select b.command_id, b.domain, b.status from commandbus.command as b
    where b.batch_id >= %(batch_id)s and b.batch_id <= %(batch_id)s and b.domain = %(domain)s
    order by b.batch_id, b.domain
    limit %(look)s
) as near
join commandbus.command as c on c.command_id = near.command_id and c.domain = near.domain
where near.status = 'FAILED'
order by c.created_at desc, c.command_id
limit %(limit)s;

-- name: processes
-- Processes, newest first, among the next look of them from a place on, or of a batch; how many were read, and the place of the last that was.
with near as (
    (select p.process_id, p.created_at, p.domain, p.process_type, p.status
     from commandbus.process as p
     where %(batch_id)s::uuid is null
       and p.created_at <= coalesce(%(after_time)s::timestamptz, 'infinity')
       and (%(after_time)s::timestamptz is null or p.created_at < %(after_time)s or p.process_id > %(after_id)s::uuid)
     order by p.created_at desc, p.process_id
     limit %(look)s)
    union all
    (select p.process_id, p.created_at, p.domain, p.process_type, p.status
     from commandbus.process as p
     where p.batch_id = %(batch_id)s::uuid
       and p.created_at <= coalesce(%(after_time)s::timestamptz, 'infinity')
       and (%(after_time)s::timestamptz is null or p.created_at < %(after_time)s or p.process_id > %(after_id)s::uuid)
     order by p.created_at desc, p.process_id
     limit %(look)s)
), found as (
    select n.process_id, n.created_at
    from near as n
    where (%(domain)s::text is null or n.domain = %(domain)s)
      and (%(process_type)s::text is null or n.process_type = %(process_type)s)
      and (%(status)s::text is null or n.status = %(status)s)
    order by n.created_at desc, n.process_id
    limit %(limit)s
), edge as (
    select n.process_id, n.created_at from near as n order by n.created_at, n.process_id desc limit 1
)
select p.*, e.looked, e.edge_id, e.edge_time
from (
    select (select count(*) from near) as looked, (select process_id from edge) as edge_id, (select created_at from edge) as edge_time
) as e
left join (select q.* from found as f join commandbus.process as q on q.process_id = f.process_id) as p on true
order by p.created_at desc, p.process_id;
