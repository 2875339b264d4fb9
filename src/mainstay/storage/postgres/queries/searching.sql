-- name: look_back
-- Which of the next commands from a place on, newest first, meet all conditions: at most limit of them, how many were read, and the place of the last that
-- was read. Reads at most step commands; those named in among, if it is not null.
with near as (
    (select c.command_id, c.domain, c.created_at, c.status, c.command_type, c.batch_id, c.headers, c.correlation_id, c.key, c.data
     from commandbus.command as c
     where %(among)s::uuid[] is null
       and c.created_at >= coalesce(%(since)s::timestamptz, '-infinity')
       and c.created_at <= least(%(until)s::timestamptz, %(after_time)s::timestamptz, 'infinity')
       and (%(after_time)s::timestamptz is null or c.created_at < %(after_time)s
            or (c.command_id, c.domain) > (%(after_id)s::uuid, %(after_domain)s::text))
     order by c.created_at desc, c.command_id, c.domain
     limit %(step)s)
    union all
    (select c.command_id, c.domain, c.created_at, c.status, c.command_type, c.batch_id, c.headers, c.correlation_id, c.key, c.data
     from unnest(%(among)s::uuid[]) as a(id)
     join commandbus.command as c on c.command_id = a.id
     where c.created_at >= coalesce(%(since)s::timestamptz, '-infinity')
       and c.created_at <= least(%(until)s::timestamptz, %(after_time)s::timestamptz, 'infinity')
       and (%(after_time)s::timestamptz is null or c.created_at < %(after_time)s
            or (c.command_id, c.domain) > (%(after_id)s::uuid, %(after_domain)s::text)))
), looked as materialized (
    select n.command_id, n.domain, n.created_at,
           (%(domain)s::text is null or n.domain = %(domain)s)
           and (%(status)s::text is null or n.status = %(status)s)
           and (%(command_type)s::text is null or n.command_type = %(command_type)s)
           and (%(batch_id)s::uuid is null or n.batch_id is not distinct from %(batch_id)s)
           and (%(tenant_id)s::text is null or n.headers ->> 'tenant_id' is not distinct from %(tenant_id)s)
           and (%(correlation_id)s::uuid is null or n.correlation_id is not distinct from %(correlation_id)s)
           and (%(key)s::text is null or n.key is not distinct from %(key)s)
           and (%(text)s::text is null or n.data is not null and strpos(lower(n.data::text), lower(%(text)s)) > 0) as meets
    from near as n
), found as (
    select l.command_id, l.domain from looked as l where l.meets order by l.created_at desc, l.command_id, l.domain limit %(limit)s
), edge as (
    select l.command_id, l.domain, l.created_at from looked as l order by l.created_at, l.command_id desc, l.domain desc limit 1
)
select (select count(*) from looked) as looked,
       (select array_agg(f.command_id) from found as f) as command_ids,
       (select array_agg(f.domain) from found as f) as domains,
       e.command_id as edge_id, e.domain as edge_domain, e.created_at as edge_time
from (select) as one left join edge as e on true;

-- name: these_commands
-- Commands by id and domain, newest first.
select c.* from unnest(%(command_ids)s::uuid[], %(domains)s::text[]) as a(command_id, domain)
join commandbus.command as c on c.command_id = a.command_id and c.domain = a.domain
order by c.created_at desc, c.command_id, c.domain;

-- name: of_conversation
-- The ids of the commands of a conversation.
select (t.command).command_id from commandbus.conversation(array[%(correlation_id)s::uuid], %(limit)s) as t;

-- name: of_batch
-- The ids of the commands of a batch.
select c.command_id from commandbus.command as c where c.batch_id = %(batch_id)s limit %(limit)s;

-- name: in_trouble
-- The ids of the commands that wait for an operator.
select t.command_id from commandbus.troubleshooting as t limit %(limit)s;

-- name: known_as
-- What has an id in a range: commands, batches, processes and operators' actions.
(select 'COMMAND' as kind, c.command_id as id, c.command_type as name, c.domain as place, c.status, c.created_at as at
 from commandbus.command as c where c.command_id between %(least)s::uuid and %(most)s::uuid order by c.command_id, c.domain limit %(limit)s)
union all
(select 'BATCH', b.batch_id, coalesce(b.name, 'batch'), b.domain, b.status, b.created_at
 from commandbus.batch as b where b.batch_id between %(least)s::uuid and %(most)s::uuid order by b.batch_id, b.domain limit %(limit)s)
union all
(select 'PROCESS', p.process_id, p.process_type, p.domain, p.status, p.created_at
 from commandbus.process as p where p.process_id between %(least)s::uuid and %(most)s::uuid order by p.process_id limit %(limit)s)
union all
(select 'ACTION', a.action_id, a.action, null, a.state, a.created_at
 from commandbus.operator_action as a where a.action_id between %(least)s::uuid and %(most)s::uuid order by a.action_id limit %(limit)s);
