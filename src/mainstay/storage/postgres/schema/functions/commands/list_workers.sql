-- The workers that are alive: those that said they sleep, and what each worker handles.
--
-- Called for `mainstay workers`. A row for each command that is handled, with when its lease ends unless the worker renews it; and one without a command for each
-- worker that sleeps. A worker that was killed is seen until its leases end, or it should have woken. What is handled is looked for among the first p_depth
-- messages of each queue: it stands there at the front. Locks nothing.
create or replace function commandbus.list_workers(p_depth integer)
returns table (worker text, domain text, asleep_until timestamptz, command_id uuid, command_type text, attempt integer, since timestamptz, leased_until timestamptz)
language plpgsql stable
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    v_queue text;
begin
    return query
        select s.worker, s.domain, s.until, null::uuid, null::text, null::integer, null::timestamptz, null::timestamptz
        from commandbus.sleeper as s where s.until > now();
    for v_queue in select m.queue_name from pgmq.meta as m where m.queue_name like '%\_\_commands' order by m.queue_name loop
        return query execute format(
            'select r.details ->> ''worker'', c.domain, null::timestamptz, c.command_id, c.command_type, c.attempts, r.ts, l.vt'
            ' from ('
            '  select q.msg_id, q.vt, commandbus.id_of(q.message) as command_id'
            '  from (select f.msg_id, f.vt, f.message from %s as f order by f.msg_id limit $1) as q where q.vt > now() offset 0) as l'
            ' join commandbus.command as c on c.command_id = l.command_id and c.domain = $2 and c.status = ''IN_PROGRESS'' and c.msg_id = l.msg_id'
            ' cross join lateral ('
            '  select a.details, a.ts from commandbus.audit as a'
            '  where a.subject_no = c.subject_no and a.event_type = ''RECEIVED'' order by a.audit_id desc limit 1) as r',
            commandbus.queue_table(v_queue))
        using p_depth, left(v_queue, -length('__commands'));
    end loop;
end;
$$;
