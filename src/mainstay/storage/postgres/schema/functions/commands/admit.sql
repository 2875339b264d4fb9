-- Judge leased messages whose commands have gates: those that may start take their place, the others are parked.
--
-- Called by receive with what it leased, after expired leases were dealt with, in domains that have gates. p_at_once: how many the
-- worker can start at once; what is limited never waits in a worker's backlog. Returns the messages to go on with, and what occupy says of those that passed a limit.
-- Where a gate is shut, up to 1,000 messages ahead are looked through for more of its kind, so that they are not received one by one.
--
-- Locks: the domain's row, if a message has a gate; the caller holds the queue rows. Then command rows, see park.
create or replace function commandbus.admit(
    p_domain text, p_at_once integer, inout leased commandbus.leased_message[], out limited jsonb)
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
as $$
declare
    v_gate commandbus.gate;
    v_gone bigint[] := '{}';
    v_types text[];
    v_left integer := p_at_once;
    v_room integer;
    v_asked uuid[];
    v_asked_msg_ids bigint[];
    v_chosen uuid[];
    v_keys text[];
    v_reason text;
    v_bitmap text := current_setting('enable_bitmapscan');
    v_table regclass := commandbus.queue_table(p_domain || '__commands');
begin
    select array_agg(distinct g.command_type) into v_types
    from unnest(leased) as m
    join commandbus.gate as g on g.domain = p_domain and g.command_type = m.message ->> 'command_type' and g.command_type <> '';
    if v_types is null then
        return;
    end if;
    perform commandbus.lock_gates(p_domain);

    for v_gate in
        select g.* from commandbus.gate as g where g.domain = p_domain and g.command_type = any (v_types) order by g.command_type
    loop
        select array_agg(c.command_id), array_agg(m.msg_id) into v_asked, v_asked_msg_ids
        from unnest(leased) as m
        join commandbus.command as c on c.command_id = any (array[m.command_id]) and c.domain || '' = p_domain
        where c.command_type = v_gate.command_type and c.status = 'PENDING' and c.msg_id = m.msg_id;
        continue when v_asked is null;

        perform commandbus.free_slots(v_gate);
        v_room := commandbus.room(v_gate);
        select array_agg(e.command_id), array_agg(e.key) into v_chosen, v_keys
        from (
            select r.command_id, r.key from (
                select c.command_id, c.msg_id, k.key, row_number() over (partition by k.key order by c.msg_id) as nth
                from unnest(v_asked) as t(id)
                join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain
                cross join lateral commandbus.limit_key(v_gate.per, c.data, c.headers) as k(key)
            ) as r
            where v_gate.max_running_per is null or r.nth <= v_gate.max_running_per - (
                select count(*) from commandbus.running_slot as s
                where s.domain = p_domain and s.command_type = v_gate.command_type and s.limit_key = r.key)
            order by r.msg_id
            limit least(v_room, v_left)
        ) as e;
        if v_chosen is not null then
            v_left := v_left - cardinality(v_chosen);
            limited := coalesce(limited, '{}') || commandbus.occupy(v_gate, v_chosen, v_keys);
        end if;

        if cardinality(v_asked) > coalesce(cardinality(v_chosen), 0) then
            v_reason := case when v_gate.paused_at is not null then 'PAUSE' else 'LIMIT' end;
            v_gone := v_gone || commandbus.park(
                v_gate,
                array(select t.id from unnest(v_asked) as t(id) where t.id <> all (coalesce(v_chosen, '{}'))),
                array(select t.msg from unnest(v_asked, v_asked_msg_ids) as t(id, msg) where t.id <> all (coalesce(v_chosen, '{}'))),
                v_reason);
            if coalesce(cardinality(v_chosen), 0) >= v_room then
                perform set_config('enable_bitmapscan', 'off', true);  -- in the order of the index, or it would read whole ranges
                execute format(
                    'select array_agg(l.id), array_agg(l.msg_id) from ('
                    '  select q.msg_id, commandbus.id_of(q.message) as id from %1$s as q'
                    '  where q.vt <= clock_timestamp() and q.msg_id = any (array('
                    '    select p.msg_id from ('
                    '      select h.msg_id, h.message from unnest($2) as r(ids) cross join lateral ('
                    '        select h.msg_id, h.message from %1$s as h'
                    '        where h.msg_id >= lower(r.ids) and h.msg_id < upper(r.ids) and h.vt <= clock_timestamp() and h.read_ct = 0'
                    '        order by h.msg_id limit 1000) as h'
                    '      limit 1000) as p'
                    '    where p.message ->> ''command_type'' = $1))'
                    '  for update skip locked) as l',
                    v_table)
                using v_gate.command_type, (commandbus.live_range_of(p_domain, v_table)).ranges into v_asked, v_asked_msg_ids;
                perform set_config('enable_bitmapscan', v_bitmap, true);
                if v_asked is not null then
                    perform commandbus.park(v_gate, v_asked, v_asked_msg_ids, v_reason);
                end if;
            end if;
        end if;
    end loop;

    if v_gone <> '{}' then
        select array_agg(m) into leased from unnest(leased) as m where m.msg_id <> all (v_gone);
    end if;
end;
$$;
