-- Positions of the first events, after one position and up to another, that fit one item of a query.
--
-- p_kinds: of these kinds, null for all; p_tags: with all of these tags; p_tenant: of this tenant; p_archived: false leaves out archived streams.
--
-- Called by read_feed and append. Locks nothing. Walks the index of the first tag, or of each kind, or of positions.
create or replace function eventsource.fitting(
    p_kinds integer[], p_tags text[], p_tenant text, p_archived boolean, p_after bigint, p_up_to bigint, p_limit integer)
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
begin
    if cardinality(p_tags) > 0 then
        return array(
            select t.position
            from eventsource.event_tag as t
            cross join lateral (select e.* from eventsource.event as e where e.position = t.position offset 0) as e
            where t.tag = p_tags[1] and t.position > p_after and t.position <= p_up_to
              and e.tags @> p_tags
              and (p_kinds is null or e.kind_no = any (p_kinds))
              and (p_tenant is null and p_archived or exists (
                  select from eventsource.stream as s
                  where s.stream_no = e.stream_no and s.tenant_id = coalesce(p_tenant, s.tenant_id)
                    and (p_archived or s.archived_at is null)))
            order by t.position
            limit p_limit);
    elsif p_kinds is not null then
        return array(
            select f.position
            from unnest(p_kinds) as k(kind_no)
            cross join lateral (
                select e.position
                from eventsource.event as e
                where e.kind_no = k.kind_no and e.position > p_after and e.position <= p_up_to
                  and (p_tenant is null and p_archived or exists (
                      select from eventsource.stream as s
                      where s.stream_no = e.stream_no and s.tenant_id = coalesce(p_tenant, s.tenant_id)
                        and (p_archived or s.archived_at is null)))
                order by e.position
                limit p_limit
            ) as f
            order by f.position
            limit p_limit);
    end if;
    return array(
        select e.position
        from eventsource.event as e
        where e.position > p_after and e.position <= p_up_to
          and (p_tenant is null and p_archived or exists (
              select from eventsource.stream as s
              where s.stream_no = e.stream_no and s.tenant_id = coalesce(p_tenant, s.tenant_id)
                and (p_archived or s.archived_at is null)))
        order by e.position
        limit p_limit);
end;
$$;
