-- What stands in the queue of each domain beside who could receive it: depth, ages, strays, sleeping workers, overdue deferred commands.
--
-- Called by doctor. A stray is a message that no waiting command stands for; the oldest p_sample messages of each queue are looked at.
-- longest_unread_seconds is how long a message may be received already and was not. Reads whole queues, which are short by design, and of commands those of the
-- sample, each by its primary key, which is all that is left to the planner (see receive): to hash them, it would read all commands of a domain. Locks nothing.
create or replace function commandbus.examine_queues(p_sample integer)
returns table (domain text, ready bigint, leased bigint, oldest_ready_seconds double precision, longest_unread_seconds double precision,
               strays bigint, sleepers bigint, overdue_seconds double precision)
language plpgsql stable
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
declare
    v_queue text;
    v_domain text;
begin
    for v_queue in select m.queue_name from pgmq.meta as m where m.queue_name like '%\_\_commands' order by m.queue_name loop
        v_domain := left(v_queue, -length('__commands'));
        return query execute format(
            'select %1$L, q.ready, q.leased, q.oldest, q.unread, s.strays,'
            '  (select count(*) from commandbus.sleeper as w where w.domain = %1$L and w.until > now()),'
            '  (select extract(epoch from now() - min(d.due_at))::double precision from commandbus.deferred as d'
            '   where d.domain = %1$L and d.due_at <= now())'
            ' from ('
            '  select count(*) filter (where m.vt <= now()) as ready, count(*) filter (where m.vt > now()) as leased,'
            '   extract(epoch from now() - min(m.enqueued_at) filter (where m.vt <= now()))::double precision as oldest,'
            '   extract(epoch from now() - min(m.vt) filter (where m.vt <= now()))::double precision as unread'
            '  from %2$s as m) as q,'
            ' lateral ('
            '  select count(*) as strays'
            '  from (select o.msg_id, o.message from %2$s as o order by o.msg_id limit $1) as o'
            '  left join commandbus.command as c on c.command_id = any (array[commandbus.id_of(o.message)]) and c.domain || '''' = %1$L'
            '  where c.command_id is null or c.status not in (''PENDING'', ''IN_PROGRESS'') or c.msg_id is distinct from o.msg_id) as s',
            v_domain, commandbus.queue_table(v_queue))
        using p_sample;
    end loop;
end;
$$;
