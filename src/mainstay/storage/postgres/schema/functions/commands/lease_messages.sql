-- Lease up to p_limit messages of a command queue, in the order of their ids, skipping locked ones.
--
-- Called by receive. p_ranges: where to look, null for everywhere. Returns the messages, whether one of them was leased before, and the
-- last id; all null if there is none.
--
-- A queue's table is known by name only, so this is dynamic SQL, which would be parsed and planned anew for each call: half of what a receive
-- of one command costs. So it is prepared, once in a session for each queue and kind of look, and under the settings below. That it is not there yet (or not any more: DEALLOCATE ALL, DISCARD ALL)
-- shows when it is executed. Sessions that serve many queues, behind a pooler, keep the c_most of them that were prepared last.
--
-- Locks: queue rows in the order of msg_id, skipping locked ones. A crash before COMMIT leaves them unleased.
create or replace function commandbus.lease_messages(
    p_domain text, p_limit integer, p_lease double precision, p_ranges int8multirange,
    out leased commandbus.leased_message[], out is_reread boolean, out last_msg_id bigint)
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    c_most constant integer := 100;
    v_name text := 'mainstay_lease_' || p_domain || case when p_ranges is null then '' else '_in_ranges' end;
    v_call text := format('execute %I (%L, %L%s)', v_name, p_limit, p_lease, ', ' || quote_literal(p_ranges));
    v_old text;
begin
    loop
        begin
            execute v_call into leased, is_reread, last_msg_id;
            return;
        exception when invalid_sql_statement_name then
            null;
        end;
        for v_old in
            select s.name from pg_catalog.pg_prepared_statements as s where s.name like 'mainstay\_lease\_%'
            order by s.prepare_time desc offset c_most - 1
        loop
            execute format('deallocate %I', v_old);
        end loop;
        execute format(
            'prepare %2$I (integer, double precision%3$s) as'
            ' with leased as ('
            '  update %1$s as q set vt = clock_timestamp() + make_interval(secs => $2), read_ct = q.read_ct + 1'
            '  where q.msg_id = any (array(' || case when p_ranges is null then
            '    select p.msg_id from %1$s as p where p.vt <= clock_timestamp() order by p.msg_id limit $1 for update skip locked'
            else
            '    select p.msg_id from unnest($3) as r(ids) cross join lateral ('
            '      select p.msg_id from %1$s as p'
            '      where p.msg_id >= lower(r.ids) and p.msg_id < upper(r.ids) and p.vt <= clock_timestamp()'
            '      order by p.msg_id limit $1 for update skip locked) as p'
            '    limit $1'
            end || '))'
            '  returning row(q.msg_id, commandbus.id_of(q.message), q.message, q.headers, q.read_ct > 1)::commandbus.leased_message as m,'
            '   q.read_ct > 1 as is_reread, q.msg_id'
            ' ) select array_agg(l.m), bool_or(l.is_reread), max(l.msg_id) from leased as l',
            format('pgmq.%I', 'q_' || p_domain || '__commands'), v_name, case when p_ranges is null then '' else ', int8multirange' end);
    end loop;
end;
$$;
