-- Make the next command of each key ready whose turn is free. One command of a key at a time: its head, which stays the head
-- through retries, lost leases, give-backs and the troubleshooting queue, until it ends.
--
-- Called by receive when there are hints. Returns how many commands it made ready.
--
-- Who promotes a key holds its lock, an advisory one of the transaction: taken or not at once, never waited for, so that no receiver
-- waits for another. Hints of a key that somebody else holds stay. In this order, each a statement with a snapshot of its own:
--
-- 1. hints are locked, skipping those that another promoter has;
-- 2. the keys are locked; the hints of those that were had are deleted;
-- 3. under the lock: a key without a head gets its lowest waiting number as head; a head that came back from a retry goes on.
--
-- The lowest number must come from a snapshot taken after the lock. An older one may show a command that a promoter before us made ready
-- and that ended since: it would be handled again. (tests/integration/postgres/naive_promote.sql does it.)
--
-- No key is forgotten. Whatever was committed before 3 is seen by 3. Whatever commits later brings a hint that 1 did not see: a send
-- its own; a head that ends, which 3 still takes for alive, that of release_keys; so does a cancel of the very row that 3 chose. A
-- transaction that ends a head and stays open holds up its key, and nobody else.
-- A crash before COMMIT leaves the hints; after it the commands are ready.
--
-- Locks: hints (skipping), keys (not waiting), keyed rows, then command rows in the order of ids, as cancel does; heads are only inserted.
create or replace function commandbus.promote_keys(p_domain text, p_limit integer)
returns integer
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    c_far constant bigint := 1000;  -- index entries beyond those taken that a walk must meet before it is narrowed
    v_first bigint := commandbus.first_hint(p_domain);
    v_walked bigint := pg_stat_get_xact_tuples_returned('commandbus.key_hint_pkey'::regclass);
    v_hints tid[];
    v_named text[];
    v_keys text[];
    v_ids uuid[];
    v_promoted integer;
begin
    select array_agg(h.ctid), array_agg(h.key) into v_hints, v_named
    from (
        select k.ctid, k.key from commandbus.key_hint as k
        where k.domain = p_domain and k.hint_no >= v_first
        order by k.hint_no
        limit p_limit
        for update skip locked
    ) as h;
    if pg_stat_get_xact_tuples_returned('commandbus.key_hint_pkey'::regclass) - v_walked > c_far + p_limit then
        perform commandbus.narrow_hints(p_domain);
    end if;
    if v_hints is null then
        return 0;
    end if;

    select array_agg(k.key) into v_keys
    from (select distinct t.key from unnest(v_named) as t(key)) as k
    where pg_try_advisory_xact_lock(hashtextextended('mainstay.key.' || p_domain || '/' || k.key, 0));
    if v_keys is null then
        return 0;
    end if;
    delete from commandbus.key_hint as h  -- where they are: they are locked, and a join might look for each among all that wait
    where h.ctid = any (array(select t.place from unnest(v_hints, v_named) as t(place, key) where t.key = any (v_keys)));

    with next as materialized (
        select k.key, w.subject_no, h.key is null as is_new
        from unnest(v_keys) as k(key)
        left join commandbus.key_head as h on h.key = any (array[k.key]) and h.domain || '' = p_domain
        cross join lateral (
            select w.subject_no from commandbus.keyed as w
            where w.domain = p_domain and w.key = k.key and w.subject_no >= coalesce(h.subject_no, 0)
            order by w.domain, w.key, w.subject_no
            limit 1
        ) as w
        where h.key is null or w.subject_no = h.subject_no
        order by w.subject_no
    ), chosen as (
        delete from commandbus.keyed as w using next as n
        where w.domain = p_domain and w.key = any (array[n.key]) and w.subject_no = n.subject_no
        returning w.key, w.subject_no, w.command_id, n.is_new
    ), headed as (
        insert into commandbus.key_head (key, domain, subject_no, command_id)
        select c.key, p_domain, c.subject_no, c.command_id from chosen as c where c.is_new
    )
    select array_agg(c.command_id) into v_ids from chosen as c;
    if v_ids is null then
        return 0;
    end if;
    select count(*) into v_promoted from commandbus.make_ready(p_domain, v_ids, true);
    return v_promoted;
end;
$$;
