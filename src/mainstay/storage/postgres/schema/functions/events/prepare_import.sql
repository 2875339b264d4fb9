-- Make room for events that will follow by COPY in the same transaction: lock and lengthen their streams, draw their positions.
--
-- Called by PostgresEventLog.import_events for each part of an import. Streams are distinct, with how many events each gets; categories and types are what the kinds are made of, distinct
-- too; tags, distinct, in the text form of one array. Returns one row: the streams' numbers and their versions before, the kinds' numbers, and positions in order.
--
-- Raises MS103 and MS104 as append does. Locks, each until the transaction ends, as append does, but part by part: two imports that share streams may end up waiting for each
-- other, and PostgreSQL ends one of them. From its first part on, an import holds the horizon back. A crash before COMMIT leaves nothing.
create or replace function eventsource.prepare_import(
    p_categories text[], p_tenants text[], p_ids text[], p_counts integer[], p_kind_categories text[], p_types text[], p_tags text[])
returns table (stream_nos bigint[], versions integer[], kinds integer[], positions bigint[])
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
    v_closed record;
begin
    insert into eventsource.stream (category, tenant_id, stream_id)
    select a.category, a.tenant_id, a.stream_id
    from unnest(p_categories, p_tenants, p_ids) as a(category, tenant_id, stream_id)
    where not exists (
        select from eventsource.stream as s
        where s.category = a.category and s.tenant_id = a.tenant_id and s.stream_id = a.stream_id)
    order by a.category collate "C", a.tenant_id collate "C", a.stream_id collate "C"
    on conflict do nothing;

    with locked as (
        select s.stream_no, s.version, s.archived_at, s.tombstoned_at, a.place
        from unnest(p_categories, p_tenants, p_ids) with ordinality as a(category, tenant_id, stream_id, place)
        join eventsource.stream as s on s.category = a.category and s.tenant_id = a.tenant_id and s.stream_id = a.stream_id
        order by a.category collate "C", a.tenant_id collate "C", a.stream_id collate "C"
        for update of s
    )
    select array_agg(l.stream_no order by l.place), array_agg(l.version order by l.place) into stream_nos, versions from locked as l;

    select s.* into v_closed from eventsource.stream as s
    where s.stream_no = any (stream_nos) and (s.tombstoned_at is not null or s.archived_at is not null) limit 1;
    if found then
        raise exception 'the import into % % was refused', v_closed.category, v_closed.stream_id using
            errcode = case when v_closed.tombstoned_at is null then 'MS104' else 'MS103' end,
            detail = jsonb_build_object('stream', v_closed.category || '/' || v_closed.stream_id
                                                  || coalesce('@' || nullif(v_closed.tenant_id, ''), ''))::text;
    end if;
    update eventsource.stream as s set version = s.version + a.count, created_at = coalesce(s.created_at, now())
    from unnest(stream_nos, p_counts) as a(stream_no, count)
    where s.stream_no = any (array[a.stream_no]);

    perform eventsource.lock_keys(p_types, p_tags, null);
    kinds := eventsource.kinds_of(p_kind_categories, p_types);
    perform eventsource.hold_floor();
    positions := array(
        select nextval('eventsource.event_position') from generate_series(1, (select sum(c.count) from unnest(p_counts) as c(count))));
    return next;
end;
$$;
