-- Learn where in a queue no message is and none will be, so that receive need not walk there: while any old snapshot is held, the index
-- entries of messages that were deleted since it was taken cannot be removed, and a walk from the queue's beginning meets all of them.
--
-- Called by receive at its end, when it walked over many more entries than it leased, and from then on every so many commands, until vacuum could
-- do its work and receive forgets it all. p_leased: what it leased.
--
-- live_range holds ranges of message ids. The promise is that outside of them nothing is, and nothing will be; it is true for ever, so that a
-- receiver that reads an old row reads too much, never too little. An id may be taken out of the ranges when
--
-- 1. its number is settled: every transaction that drew a number up to it has ended, so what it wrote is visible, or never will be; and
-- 2. a snapshot taken after that shows no message under it, and no parked command that will have its place again.
--
-- Who draws a number locks the sequence until its transaction ends (nextval does, whoever calls it, for the whole transaction, also in a
-- savepoint that is rolled back, also when prepared). So: read the sequence, *then* who holds that lock. When none of those holds it any
-- more, the numbers read then are settled; if none holds it now, they are settled at once. A transaction being prepared changes its
-- name in pg_locks; while there is such a one nothing new is settled.
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
    v_seen bigint;
    v_senders text[];
    v_settled bigint;
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

    v_seen := coalesce(pg_sequence_last_value(v_sequence), 0);
    select coalesce(array_agg(k.virtualtransaction), '{}') into v_senders
    from pg_catalog.pg_locks as k
    where k.locktype = 'relation' and k.relation = v_sequence and k.mode = 'RowExclusiveLock'
      and k.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
      and k.pid is distinct from pg_backend_pid();
    if v_senders = '{}' then
        v_settled := v_seen;
    elsif v_old.no is null then
        v_settled := 0;
    elsif v_senders && v_old.senders or exists (select from unnest(v_senders) as s where s like '-%') then
        v_settled := v_old.settled;
        v_seen := v_old.seen;
        v_senders := v_old.senders;
    else
        v_settled := v_old.seen;
    end if;

    for v_start, v_last in
        select m.id - (m.id % c_band + c_band) % c_band, max(m.id) from unnest(p_leased) as m(id) group by 1
    loop
        v_end := least(v_start + v_settled, v_last) + 1;
        execute format(  -- one statement: a command that is parked or released meanwhile is in one of the two
            'select array('
            '  select p.msg_id from unnest($1) as r(ids) cross join lateral ('
            '    select p.msg_id from %s as p where p.msg_id >= lower(r.ids) and p.msg_id < upper(r.ids)) as p),'
            ' array(select p.place from commandbus.parked as p where p.domain = $2 limit $3)', v_table)
        using v_ranges * int8multirange(int8range(v_start, v_end)), p_domain, c_most_parked + 1
        into v_present, v_parked;
        exit when cardinality(v_parked) > c_most_parked;
        select range_agg(int8range(i.lo, i.hi + 1)) filter (where i.nth < c_most_ranges), min(i.lo) filter (where i.nth >= c_most_ranges)
        into v_kept, v_cut
        from (
            select g.nth, min(g.id) as lo, max(g.id) as hi
            from (
                select w.id, count(*) filter (where w.is_far) over (order by w.id) as nth
                from (
                    select m.id, m.id - lag(m.id) over (order by m.id) > c_far as is_far
                    from unnest(v_present || v_parked) as m(id) where m.id >= v_start and m.id < v_end
                ) as w
            ) as g
            group by g.nth
        ) as i;
        v_ranges := v_ranges - int8multirange(int8range(v_start, least(v_end, v_cut))) + coalesce(v_kept, '{}');
    end loop;

    delete from commandbus.live_range as l where l.domain = p_domain and l.file = v_file and l.no = v_old.no;
    insert into commandbus.live_range (domain, file, ranges, settled, seen, senders, tried)
    values (p_domain, v_file, v_ranges, v_settled, v_seen, v_senders, (select max(m.id) from unnest(p_leased) as m(id)));
end;
$$;
