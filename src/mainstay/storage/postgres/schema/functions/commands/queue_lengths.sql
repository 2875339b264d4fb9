-- What stands in the queue of each domain, or of one: ready, leased, and how long the oldest ready message has waited.
--
-- Called by stats. Reads whole queues, which are short by design, and without workers of its own: who looks must not take what commands are handled with. Locks
-- nothing.
create or replace function commandbus.queue_lengths(p_domain text)
returns table (domain text, ready bigint, in_flight bigint, oldest_ready_seconds double precision)
language plpgsql stable
set max_parallel_workers_per_gather = 0
set jit = off
as $$
declare
    v_queue text;
begin
    for v_queue in
        select m.queue_name from pgmq.meta as m
        where m.queue_name like '%\_\_commands' and (p_domain is null or m.queue_name = p_domain || '__commands')
        order by m.queue_name
    loop
        return query execute format(
            'select %L, count(*) filter (where q.vt <= now()), count(*) filter (where q.vt > now()),'
            ' extract(epoch from now() - min(q.enqueued_at) filter (where q.vt <= now()))::double precision'
            ' from %s as q', left(v_queue, -length('__commands')), commandbus.queue_table(v_queue));
    end loop;
end;
$$;
