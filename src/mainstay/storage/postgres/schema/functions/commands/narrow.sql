-- Learn where in a queue no message is and none will be, so that receive need not walk there: while any old snapshot is held, the index
-- entries of messages that were deleted since it was taken cannot be removed, and a walk from the queue's beginning meets all of them.
--
-- Called by receive at its end, when it walked over many more entries than it leased, and from then on every so many commands, until vacuum could
-- do its work and receive forgets it all. p_leased: what it leased.
--
-- live_range holds ranges of message ids. The promise is that outside of them nothing is, and nothing will be; it is true for ever, so that a
-- receiver that reads an old row reads too much, never too little. An id may be taken out of the ranges when
--
-- 1. its number is settled: every transaction that drew a number up to it has ended, so what it wrote is visible, or never will be: see settle; and
-- 2. a snapshot taken after that shows no message under it, and no parked command that will have its place again.
--
-- Messages that stay behind, leased ones mostly, stay in the ranges: each in one of its own, or in one with its neighbours. Nobody puts
-- a message back under an id of old but release_parked, see 2, and repair, which widens the ranges under the lock that narrow takes. A
-- message written by hand under an old id is found by fsck.
--
-- Locks: the queue's ranges, an advisory lock that is taken or not at once; who has it waits for nothing any more. A crash before COMMIT leaves the ranges
-- as they were. Under REPEATABLE READ, whose snapshot may be older than the lock, it does nothing.
create or replace function commandbus.narrow(p_domain text, p_leased bigint[])
returns void
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
    c_band constant bigint := commandbus.place(0, -1);
    c_most_parked constant integer := 1000;
    c_far constant bigint := 64;  -- a gap that is worth a range of its own
    c_most_ranges constant integer := 64;
    v_table regclass := commandbus.queue_table(p_domain || '__commands');
    v_file oid := pg_relation_filenode(v_table);
    v_sequence regclass := to_regclass(format('pgmq.%I', 'q_' || p_domain || '__commands_msg_id_seq'));
    v_old commandbus.live_range;
    v_ranges int8multirange;
    v_known record;
    v_parked bigint[];
    v_start bigint;
    v_last bigint;
    v_end bigint;
    v_cut bigint;
    v_present bigint[];
    v_kept int8multirange;
begin
    if v_file is null or v_sequence is null or current_setting('transaction_isolation') <> 'read committed'
       or not exists (select from pg_catalog.pg_sequence as s where s.seqrelid = v_sequence and s.seqcache = 1)
       or not pg_try_advisory_xact_lock(hashtextextended('mainstay.live_range.' || p_domain, 0))
    then
        return;
    end if;
    v_old := commandbus.live_range_of(p_domain, v_table);
    v_ranges := v_old.ranges;

    v_known := commandbus.settle(v_sequence, (select max((m.id % c_band + c_band) % c_band) from unnest(p_leased) as m(id)), v_old);

    for v_start, v_last in
        select m.id - (m.id % c_band + c_band) % c_band, max(m.id) from unnest(p_leased) as m(id) group by 1
    loop
        v_end := least(v_start + v_known.settled, v_last) + 1;
        execute format(  -- one statement: a command that is parked or released meanwhile is in one of the two; offset 0: range by range,
            -- or, where vacuum found next to nothing alive, the planner takes the whole index for as cheap
            'select array('
            '  select p.msg_id from unnest($1) as r(ids) cross join lateral ('
            '    select p.msg_id from %s as p where p.msg_id >= lower(r.ids) and p.msg_id < upper(r.ids) offset 0) as p),'
            ' array(select p.place from commandbus.parked as p where p.domain = $2 limit $3)', v_table)
        using v_ranges * int8multirange(int8range(v_start, v_end)), p_domain, c_most_parked + 1
        into v_present, v_parked;
        exit when cardinality(v_parked) > c_most_parked;
        select range_agg(int8range(lower(near.ids), upper(near.ids) - c_far + 1)) into v_kept
        from (
            select unnest(range_agg(int8range(m.id, m.id + c_far))) as ids
            from unnest(v_present || v_parked) as m(id) where m.id >= v_start and m.id < v_end
        ) as near;
        v_cut := null;
        if cardinality(v_present) + cardinality(v_parked) > c_most_ranges then
            select lower(k.ids) into v_cut from unnest(v_kept) as k(ids) offset c_most_ranges limit 1;
        end if;
        v_ranges := v_ranges - int8multirange(int8range(v_start, least(v_end, v_cut))) + coalesce(v_kept, '{}');
    end loop;

    delete from commandbus.live_range as l where l.domain = p_domain and l.file = v_file and l.no = v_old.no;
    insert into commandbus.live_range (domain, file, ranges, settled, seen, senders, tried)
    values (p_domain, v_file, v_ranges, v_known.settled, v_known.seen, v_known.senders, (select max(m.id) from unnest(p_leased) as m(id)));
end;
$$;
