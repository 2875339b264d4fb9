-- One page of the feed: the events after a position that are wanted, up to the horizon, in order.
--
-- The first row is no event: its position is the horizon. p_items is the query, an array of {types, tags}, or null; p_archived: also those of archived streams.
--
-- The horizon is found first, the events by the next statement, whose snapshot is later: that order is the promise (eventsource.hold_floor). So it refuses (MS107)
-- to run where all statements share a snapshot. Locks nothing, waits for nothing.
create or replace function eventsource.read_feed(
    p_after bigint, p_limit integer, p_types text[] default null, p_categories text[] default null, p_tenant text default null,
    p_items jsonb default null, p_archived boolean default true)
returns table (
    "position" bigint, category text, stream_id text, tenant_id text, version integer, recorded_at timestamptz,
    event_id uuid, event_type text, payload text, occurred_at timestamptz, event_version integer, correlation_id uuid,
    causation_id uuid, actor_id text, metadata text, tags text[])
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_horizon bigint;
    v_kinds integer[];
    v_positions bigint[];
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'the feed is read in READ COMMITTED transactions only: others would miss events' using errcode = 'MS107';
    end if;
    v_horizon := eventsource.horizon();
    position := v_horizon;
    return next;

    if p_types is null and p_categories is null and p_tenant is null and p_items is null and p_archived then
        return query
            select
                e.position, k.category, s.stream_id, s.tenant_id, e.version, e.recorded_at, e.event_id, k.event_type, e.payload::text,
                e.occurred_at, e.event_version, e.correlation_id, e.causation_id, e.actor_id, e.metadata::text, e.tags
            from (
                select e.* from eventsource.event as e
                where e.position > p_after and e.position <= v_horizon order by e.position limit p_limit
            ) as e
            join eventsource.stream as s on s.stream_no = e.stream_no
            join eventsource.kind as k on k.kind_no = e.kind_no
            order by e.position;
        return;
    end if;

    if p_types is not null or p_categories is not null then
        v_kinds := array(
            select k.kind_no from eventsource.kind as k
            where (p_types is null or k.event_type = any (p_types)) and (p_categories is null or k.category = any (p_categories)));
    end if;
    select array_agg(u.position order by u.position) into v_positions
    from (
        select distinct f.position
        from jsonb_array_elements(coalesce(nullif(p_items, '[]'), '[{}]')) as i
        cross join lateral unnest(eventsource.fitting(
            case when jsonb_array_length(i.value -> 'types') > 0 then array(
                select k.kind_no from eventsource.kind as k
                where k.event_type in (select t.name from jsonb_array_elements_text(i.value -> 'types') as t(name))
                  and (v_kinds is null or k.kind_no = any (v_kinds)))
            else v_kinds end,
            array(select t.name from jsonb_array_elements_text(i.value -> 'tags') as t(name)),
            p_tenant, p_archived, p_after, v_horizon, p_limit)) as f(position)
        order by 1
        limit p_limit
    ) as u;
    return query
        select
            e.position, k.category, s.stream_id, s.tenant_id, e.version, e.recorded_at, e.event_id, k.event_type, e.payload::text,
            e.occurred_at, e.event_version, e.correlation_id, e.causation_id, e.actor_id, e.metadata::text, e.tags
        from unnest(v_positions) as p(position)
        join eventsource.event as e on e.position = p.position
        join eventsource.stream as s on s.stream_no = e.stream_no
        join eventsource.kind as k on k.kind_no = e.kind_no
        order by e.position;
end;
$$;
