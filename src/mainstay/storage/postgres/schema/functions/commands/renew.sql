-- Extend leases that are still held.
--
-- Called by each worker's lease keeper every third of a lease, for all that the worker has in hand, in one call. Skips queue rows that are
-- locked (a flush is finishing them). Returns the commands that the worker must stop: their lease was lost to
-- a newer one, or somebody asked for their end.
create or replace function commandbus.renew(p_domain text, p_leases jsonb, p_lease double precision)
returns table (command_id uuid, is_canceled boolean)
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_held bigint[];
begin
    select array_agg(l.msg_id order by l.msg_id) into v_held
    from jsonb_to_recordset(p_leases) as l(command_id uuid, msg_id bigint, lease_no bigint)
    join commandbus.command as c on c.command_id = any (array[l.command_id]) and c.domain || '' = p_domain
    where c.lease_no = l.lease_no and c.status = 'IN_PROGRESS';
    if v_held is not null then
        execute format(
            'with held as materialized ('
            '  select q.msg_id from %1$s as q where q.msg_id = any ($1) order by q.msg_id for update skip locked'
            ') update %1$s as q set vt = greatest(q.vt, clock_timestamp() + make_interval(secs => $2))'
            ' from held where q.msg_id = held.msg_id', commandbus.queue_table(p_domain || '__commands'))
        using v_held, p_lease;
    end if;
    return query
        select l.command_id, c.lease_no = l.lease_no
        from jsonb_to_recordset(p_leases) as l(command_id uuid, lease_no bigint)
        join commandbus.command as c on c.command_id = any (array[l.command_id]) and c.domain || '' = p_domain
        where c.lease_no <> l.lease_no or (c.cancel_request is not null and c.status = 'IN_PROGRESS');
end;
$$;
