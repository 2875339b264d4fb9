-- The positions of the last so many wanted events up to a position, the highest first.
--
-- p_types, p_categories, p_tenant: as for read_feed. With a tenant it looks at the last 20,000 positions only, since no index has the tenant.
-- Each event's stream is looked at by itself: an `exists` would first gather all streams of the tenant, however many there are.
--
-- Called by place_before_last and Operator.events, with an end that was found by an earlier statement, so that no event below it is missed. Locks nothing. Walks
-- back the index of positions, or that of each kind.
create or replace function eventsource.last_positions(
    p_types text[], p_categories text[], p_tenant text, p_up_to bigint, p_count integer)
returns bigint[]
language plpgsql stable
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_kinds integer[];
    v_after bigint := case when p_tenant is null then 0 else p_up_to - 20000 end;
begin
    if p_types is null and p_categories is null then
        return array(
            select e.position from eventsource.event as e
            where e.position > v_after and e.position <= p_up_to
              and (p_tenant is null or (select s.tenant_id from eventsource.stream as s where s.stream_no = e.stream_no) = p_tenant)
            order by e.position desc limit p_count);
    else
        v_kinds := array(
            select k.kind_no from eventsource.kind as k
            where (p_types is null or k.event_type = any (p_types)) and (p_categories is null or k.category = any (p_categories)));
        return array(
            select f.position
            from unnest(v_kinds) as k(kind_no)
            cross join lateral (
                select e.position from eventsource.event as e
                where e.kind_no = k.kind_no and e.position > v_after and e.position <= p_up_to
                  and (p_tenant is null or (select s.tenant_id from eventsource.stream as s where s.stream_no = e.stream_no) = p_tenant)
                order by e.position desc limit p_count
            ) as f
            order by f.position desc limit p_count);
    end if;
end;
$$;
