-- Hold events that are to be imported against those that are there, and keep their streams as they are until the transaction ends.
--
-- Called by import_missing, before prepare_import in the same transaction. Streams are distinct; of each event there is the number of its stream in those, from 1, the
-- version that it has where it comes from, or null, and its id. Returns for each event, in order, the version of its stream, and the id of the event that is
-- there at its version; without a version its own id, if that is anywhere in the stream.
--
-- Makes the rows of streams that are missing, and locks all of them in the order of their names: as append does, so nobody appends to them meanwhile.
-- A crash before COMMIT leaves nothing.
create or replace function eventsource.compare_import(
    p_categories text[], p_tenants text[], p_ids text[], p_places integer[], p_versions integer[], p_event_ids uuid[])
returns table (stream_version integer, event_id uuid)
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
    v_nos bigint[];
    v_versions integer[];
    v_unplaced bigint[];
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
        select s.stream_no, s.version, a.place
        from unnest(p_categories, p_tenants, p_ids) with ordinality as a(category, tenant_id, stream_id, place)
        join eventsource.stream as s on s.category = a.category and s.tenant_id = a.tenant_id and s.stream_id = a.stream_id
        order by a.category collate "C", a.tenant_id collate "C", a.stream_id collate "C"
        for update of s
    )
    select array_agg(l.stream_no order by l.place), array_agg(l.version order by l.place) into v_nos, v_versions from locked as l;

    v_unplaced := array(
        select distinct v_nos[e.place] from unnest(p_places, p_versions) as e(place, version) where e.version is null);
    return query
        select v_versions[e.place],
               case when e.version is null then
                   case when e.event_id in (
                       select x.event_id from unnest(v_unplaced) as u(stream_no)
                       join eventsource.event as x on x.stream_no = u.stream_no)
                   then e.event_id end
               else (
                   select x.event_id from eventsource.event as x
                   where x.stream_no = v_nos[e.place] and x.version = e.version)
               end
        from unnest(p_places, p_versions, p_event_ids) with ordinality as e(place, version, event_id, no)
        order by e.no;
end;
$$;
