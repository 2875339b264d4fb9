-- Append to those of several streams that are as expected and that nobody else holds, and to no others.
--
-- Called by commit_group, whose caller decided on each stream at the version expected. Streams stand in the parallel arrays p_categories to p_counts;
-- one that gets no events (count 0) is a guard: it is only looked at. Events stand in the arrays p_places to p_tags, each with the place of its stream (from 1) and its version; those beyond
-- the count of their stream are left out. p_kinds says which of p_kind_categories and p_kind_types an event is of; the others are as eventsource.append takes them.
-- Gives for each stream CURRENT (appended), LOCKED (somebody else holds it), MOVED (it has another version) or CLOSED (archived or tombstoned), and for each event its
-- position, null if it was left out.
--
-- Locks as append does, by category, tenant and id, but passes by rows that are locked; then keys (lock_keys); then the floor. A guard locks nothing. A new stream is a new row, which
-- waits if another transaction is making the same; that, and a key that somebody holds alone, is waited for 100 ms, and then 55P03 is raised: the others of the group must
-- not wait with it. A crash before COMMIT leaves nothing but positions that nobody uses.
create or replace function eventsource.append_current(
    p_categories text[], p_tenants text[], p_ids text[], p_expected integer[], p_counts integer[],
    p_places integer[], p_versions integer[], p_event_ids uuid[], p_kind_categories text[], p_kind_types text[], p_kinds integer[],
    p_payloads json[], p_occurred_at timestamptz[], p_event_versions integer[],
    p_correlation_ids uuid[], p_causation_ids uuid[], p_actor_ids text[], p_metadata text[], p_tags text[],
    out fates text[], out positions bigint[])
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
set lock_timeout = '100ms'
as $$
declare
    v_numbers bigint[];
    v_missing integer[];
    v_kinds integer[];
begin
    -- The row locks come first and alone: what is decided on is what they found, however late.
    with asked as materialized (
        select a.* from unnest(p_categories, p_tenants, p_ids, p_expected, p_counts)
            with ordinality as a(category, tenant_id, stream_id, expected, count, place)
        order by a.category collate "C", a.tenant_id collate "C", a.stream_id collate "C"
    ), held as materialized (
        select
            a.place, s.stream_no,
            case when s.is_closed then 'CLOSED' when s.version = a.expected then 'CURRENT' else 'MOVED' end as fate
        from asked as a
        cross join lateral (
            select s.stream_no, s.version, s.archived_at is not null or s.tombstoned_at is not null as is_closed
            from eventsource.stream as s
            where s.category = a.category and s.tenant_id = a.tenant_id and s.stream_id = a.stream_id
            for update skip locked
        ) as s
        where a.count > 0
    ), seen as (
        select a.place, a.count, a.expected, h.stream_no, h.fate, s.version
        from asked as a
        left join held as h on h.place = a.place
        left join eventsource.stream as s
            on h.place is null and s.category = a.category and s.tenant_id = a.tenant_id and s.stream_id = a.stream_id
    )
    select
        array_agg(case when s.fate = 'CURRENT' then s.stream_no end order by s.place),
        array_agg(
            case
                when s.fate is not null then s.fate
                when s.count = 0 and coalesce(s.version, 0) = s.expected then 'CURRENT'
                when s.count > 0 and s.version is not null then 'LOCKED'
                else 'MOVED' end
            order by s.place),
        array_agg(s.place order by s.place) filter (where s.fate is null and s.version is null and s.count > 0 and s.expected = 0)
    into v_numbers, fates, v_missing
    from seen as s;

    if v_numbers <> array_fill(null::bigint, array[cardinality(v_numbers)]) then
        update eventsource.stream as s
        set version = s.version + p_counts[n.place], created_at = coalesce(s.created_at, now())
        from unnest(v_numbers) with ordinality as n(no, place)
        where s.stream_no = n.no;
    end if;
    if v_missing is not null then
        with made as (
            insert into eventsource.stream as s (category, tenant_id, stream_id, version, created_at)
            select p_categories[m.place], p_tenants[m.place], p_ids[m.place], p_counts[m.place], now()
            from unnest(v_missing) as m(place)
            order by p_categories[m.place] collate "C", p_tenants[m.place] collate "C", p_ids[m.place] collate "C"
            on conflict do nothing
            returning s.stream_no, s.category, s.tenant_id, s.stream_id
        )
        select
            array_agg(coalesce(a.no, m.stream_no) order by a.place),
            array_agg(case when m.stream_no is not null then 'CURRENT' else a.fate end order by a.place)
        into v_numbers, fates
        from unnest(p_categories, p_tenants, p_ids, v_numbers, fates) with ordinality as a(category, tenant_id, stream_id, no, fate, place)
        left join made as m on m.category = a.category and m.tenant_id = a.tenant_id and m.stream_id = a.stream_id;
    end if;
    if v_numbers = array_fill(null::bigint, array[cardinality(v_numbers)]) then
        positions := array_fill(null::bigint, array[cardinality(p_event_ids)]);
        return;
    end if;

    perform eventsource.lock_keys(p_kind_types, p_tags, null);
    v_kinds := eventsource.kinds_of(p_kind_categories, p_kind_types);
    perform eventsource.hold_floor();
    positions := array(
        select case when v_numbers[e.place] is not null and e.version <= p_expected[e.place] + p_counts[e.place]
            then nextval('eventsource.event_position') end
        from unnest(p_places, p_versions) with ordinality as e(place, version, n)
        order by e.n);
    insert into eventsource.event (
        position, stream_no, version, kind_no, event_version, event_id, recorded_at, occurred_at,
        correlation_id, causation_id, actor_id, payload, metadata, tags)
    select
        e.position, v_numbers[e.place], e.version, v_kinds[e.kind], e.event_version, e.event_id, now(), e.occurred_at,
        e.correlation_id, e.causation_id, e.actor_id, e.payload, e.metadata::json, e.tags::text[]
    from unnest(
        positions, p_places, p_versions, p_kinds, p_event_ids, p_payloads, p_occurred_at, p_event_versions,
        p_correlation_ids, p_causation_ids, p_actor_ids, p_metadata, p_tags) as e(
            position, place, version, kind, event_id, payload, occurred_at, event_version, correlation_id, causation_id, actor_id, metadata, tags)
    where e.position is not null;
    if p_tags is not null then
        insert into eventsource.event_tag (tag, position)
        select t.tag, e.position
        from unnest(positions, p_tags) as e(position, tags)
        cross join unnest(e.tags::text[]) as t(tag)
        where e.position is not null;
    end if;
end;
$$;
