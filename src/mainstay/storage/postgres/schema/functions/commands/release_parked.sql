-- Let parked commands go whose gates have room: into the queue, leased for the receive that calls, in the order in which they stood in it.
--
-- Called by receive in domains that have gates, before it leases what is ready. p_count: how many the worker can start at once.
-- Returns their messages as receive has them, and what occupy says of them. Commands that nothing limits any more go first come first
-- served as well, and a gate with nothing to keep is removed.
--
-- Locks: the domain's row, but only if there is something to release; then parked rows (cancel holds one for a moment), then command
-- rows in the order of ids. With many keys waiting the cost grows with the number of keys, not of commands.
create or replace function commandbus.release_parked(
    p_domain text, p_count integer, p_lease double precision,
    out leased commandbus.leased_message[], out limited jsonb)
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
as $$
declare
    v_gate commandbus.gate;
    v_type text;
    v_left integer := p_count;
    v_room integer;
    v_chosen uuid[];
    v_keys text[];
    v_msg_ids bigint[];
    v_messages jsonb[];
    v_headers jsonb[];
    v_queue text := p_domain || '__commands';
    v_now timestamptz;
begin
    for v_type in
        select g.command_type
        from commandbus.gate as g
        cross join lateral (
            select p.place from commandbus.parked as p
            where p.domain = g.domain and p.command_type = g.command_type and p.held_by is null order by p.limit_key, p.place limit 1) as oldest
        where g.domain = p_domain and g.command_type <> '' and g.paused_at is null
          and commandbus.room(g) is distinct from 0
        order by oldest.place
    loop
        exit when v_left <= 0;
        perform commandbus.lock_gates(p_domain);
        select g.* into v_gate from commandbus.gate as g where g.domain = p_domain and g.command_type = v_type and g.paused_at is null;
        continue when not found;
        perform commandbus.free_slots(v_gate);
        v_room := least(commandbus.room(v_gate), v_left);
        if v_gate.per is null then
            select array_agg(l.command_id), array_agg(l.limit_key), array_agg(l.place) into v_chosen, v_keys, v_msg_ids
            from (
                select p.command_id, p.limit_key, p.place from commandbus.parked as p
                where p.domain = p_domain and p.command_type = v_type and p.held_by is null
                order by p.limit_key, p.place
                limit v_room
                for update
            ) as l;
        else
            with recursive waiting as (
                (select p.limit_key from commandbus.parked as p
                 where p.domain = p_domain and p.command_type = v_type and p.held_by is null order by p.limit_key limit 1)
                union all
                select n.limit_key from waiting as w
                cross join lateral (
                    select p.limit_key from commandbus.parked as p
                    where p.domain = p_domain and p.command_type = v_type and p.held_by is null and p.limit_key > w.limit_key
                    order by p.limit_key limit 1) as n
            ), heads as (
                select h.command_id, h.place
                from waiting as w
                cross join lateral (
                    select p.command_id, p.place from commandbus.parked as p
                    where p.domain = p_domain and p.command_type = v_type and p.held_by is null and p.limit_key = w.limit_key
                    order by p.place
                    limit greatest(0, v_gate.max_running_per - (
                        select count(*) from commandbus.running_slot as s
                        where s.domain = p_domain and s.command_type = v_type and s.limit_key = w.limit_key))
                ) as h
                order by h.place
                limit v_room
            )
            select array_agg(l.command_id), array_agg(l.limit_key), array_agg(l.place) into v_chosen, v_keys, v_msg_ids
            from (
                select p.command_id, p.limit_key, p.place from heads as h
                join commandbus.parked as p on p.command_id = any (array[h.command_id]) and p.domain || '' = p_domain
                for update of p
            ) as l;
        end if;
        continue when v_chosen is null;

        delete from commandbus.parked as p using unnest(v_chosen) as t(id)
        where p.command_id = any (array[t.id]) and p.domain || '' = p_domain;
        v_now := clock_timestamp();
        with moved as (
            update commandbus.command as c
            set msg_id = given.place
            from (select t.* from unnest(v_chosen, v_keys, v_msg_ids) as t(id, key, place) order by t.id) as given
            where c.command_id = any (array[given.id]) and c.domain || '' = p_domain and c.status = 'PENDING'
            returning c.command_id, c.subject_no, c.msg_id, c.headers, given.key,
                commandbus.message(c.domain, c.command_type, c.command_id, c.correlation_id, c.data, c.reply_to) as message
        ), audited as (
            insert into commandbus.audit (subject_no, event_type, ts) select m.subject_no, 'RELEASED', v_now from moved as m
        )
        select array_agg(m.command_id), array_agg(m.key), array_agg(m.msg_id), array_agg(m.message), array_agg(m.headers)
        into v_chosen, v_keys, v_msg_ids, v_messages, v_headers
        from (select m.* from moved as m order by m.msg_id) as m;
        continue when v_chosen is null;
        execute format(
            'insert into %s (msg_id, vt, read_ct, message, headers) overriding system value'
            ' select m.msg_id, clock_timestamp() + make_interval(secs => $4), 1, m.message, m.headers'
            ' from unnest($1, $2, $3) as m(msg_id, message, headers)', commandbus.queue_table(v_queue))
        using v_msg_ids, v_messages, v_headers, p_lease;
        limited := coalesce(limited, '{}') || commandbus.occupy(v_gate, v_chosen, v_keys);
        leased := leased || array(
            select row(m.msg_id, m.id, m.message, m.headers, false)::commandbus.leased_message
            from unnest(v_msg_ids, v_chosen, v_messages, v_headers) as m(msg_id, id, message, headers));
        v_left := v_left - cardinality(v_chosen);
    end loop;
    perform commandbus.remove_gates(p_domain);
end;
$$;
