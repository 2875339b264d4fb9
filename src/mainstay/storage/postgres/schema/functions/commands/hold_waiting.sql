-- Hold commands that wait, deferred, for the turn of their key, ready or parked, in their places until the end of the transaction.
--
-- Called by cancel_pending and undo before they lock the command rows. Returns those that it holds; nobody can move them on. The places come in
-- the order in which a command goes through them, each in a statement that sees what was moved on until then: deferred rows, in
-- the order of ids, cannot be promoted; keyed rows cannot be; messages, in their order, cannot be received;
-- parked rows cannot be released.
-- A worker that is at one of them is waited for; it holds its rows for one call.
create or replace function commandbus.hold_waiting(p_domain text, p_command_ids uuid[])
returns uuid[]
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_held uuid[];
    v_part uuid[];
    v_seen bigint[];
    v_msg_ids bigint[];
begin
    select array_agg(l.command_id) into v_held
    from (
        select d.command_id
        from (select t.id from unnest(p_command_ids) as t(id) order by t.id) as given
        join commandbus.deferred as d on d.command_id = any (array[given.id]) and d.domain || '' = p_domain
        order by d.command_id
        for update of d
    ) as l;
    if exists (
        select from unnest(p_command_ids) as t(id)
        join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain where c.key is not null)
    then
        select array_agg(l.command_id) into v_part
        from (
            select k.command_id
            from unnest(p_command_ids) as t(id)
            join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain
            join commandbus.keyed as k on k.domain = p_domain and k.key = any (array[c.key]) and k.subject_no = c.subject_no
            order by k.key, k.subject_no
            for update of k
        ) as l;
        v_held := v_held || v_part;
    end if;
    select array_agg(c.command_id), array_agg(c.msg_id) into v_part, v_seen
    from unnest(p_command_ids) as t(id)
    join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain
    where c.msg_id is not null and c.status = 'PENDING';
    if v_part is not null then
        execute format(
            'select array_agg(l.msg_id) from ('
            '  select q.msg_id from %s as q where q.msg_id = any ($1) order by q.msg_id for update) as l',
            commandbus.queue_table(p_domain || '__commands'))
        using v_seen into v_msg_ids;
        v_held := v_held || array(select t.id from unnest(v_part, v_seen) as t(id, seen) where t.seen = any (v_msg_ids));
    end if;
    select array_agg(l.command_id) into v_part
    from (
        select p.command_id
        from (select t.id from unnest(p_command_ids) as t(id) order by t.id) as given
        join commandbus.parked as p on p.command_id = any (array[given.id]) and p.domain || '' = p_domain
        order by p.command_id
        for update of p
    ) as l;
    v_held := v_held || v_part;
    return v_held;
end;
$$;
