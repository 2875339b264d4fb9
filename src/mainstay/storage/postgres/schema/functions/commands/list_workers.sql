-- The workers that are alive: those that said they sleep, and what each worker handles.
--
-- Called for `mainstay workers` and the console's dashboard. A row for each command that is handled, with when its lease ends unless the worker renews it; and one
-- without a command for each worker that sleeps. A worker that was killed is seen until its leases end, or it should have woken. What is handled is looked for among
-- the first p_depth messages of each queue: it stands there at the front, and live_range says where that is. They are read once, and then of each that is leased its
-- command by the primary key, which is all that is left to the planner (see receive): as a plain join, the queue is read anew for each command that is handled.
-- Locks nothing.
create or replace function commandbus.list_workers(p_depth integer)
returns table (worker text, domain text, asleep_until timestamptz, command_id uuid, command_type text, attempt integer, since timestamptz, leased_until timestamptz)
language plpgsql stable
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
declare
    v_queue text;
    v_domain text;
    v_table regclass;
begin
    return query
        select s.worker, s.domain, s.until, null::uuid, null::text, null::integer, null::timestamptz, null::timestamptz
        from commandbus.sleeper as s where s.until > now();
    for v_queue in select m.queue_name from pgmq.meta as m where m.queue_name like '%\_\_commands' order by m.queue_name loop
        v_domain := left(v_queue, -length('__commands'));
        v_table := commandbus.queue_table(v_queue);
        return query execute format(
            'select r.details ->> ''worker'', c.domain, null::timestamptz, c.command_id, c.command_type, c.attempts, r.ts, l.vt'
            ' from ('
            '  select q.msg_id, q.vt, commandbus.id_of(q.message) as command_id'
            '  from ('
            '   select f.msg_id, f.vt, f.message from unnest($3) as r(ids) cross join lateral ('
            '    select q.msg_id, q.vt, q.message from %s as q'
            '    where q.msg_id >= lower(r.ids) and q.msg_id < upper(r.ids) order by q.msg_id limit $1) as f'
            '   limit $1) as q'
            '  where q.vt > now() offset 0) as l'
            ' join commandbus.command as c'
            '  on c.command_id = any (array[l.command_id]) and c.domain || '''' = $2 and c.status = ''IN_PROGRESS'' and c.msg_id = l.msg_id'
            ' cross join lateral ('
            '  select a.details, a.ts from commandbus.audit as a'
            '  where a.subject_no = c.subject_no and a.event_type = ''RECEIVED'' order by a.audit_id desc limit 1) as r',
            v_table)
        using p_depth, v_domain, (commandbus.live_range_of(v_domain, v_table)).ranges;
    end loop;
end;
$$;
