-- The numbers of some types of events in the categories beside them; what is new gets one.
--
-- Called by append and prepare_import. Locks nothing, waits for nothing: what another transaction makes of the same kind at the same time is
-- another number. A crash before COMMIT leaves no new kind. One kind for all is looked for once.
create or replace function eventsource.kinds_of(p_categories text[], p_types text[])
returns integer[]
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_count integer := cardinality(p_types);
    v_kinds integer[];
begin
    if p_types = array_fill(p_types[1], array[v_count]) and p_categories = array_fill(p_categories[1], array[v_count]) then
        select array_fill(k.kind_no, array[v_count]) into v_kinds
        from eventsource.kind as k
        where k.category = p_categories[1] and k.event_type = p_types[1] order by k.category, k.event_type limit 1;
        if found then
            return v_kinds;
        end if;
    end if;
    for i in 1..2 loop
        select array_agg(k.kind_no order by t.n) into v_kinds
        from unnest(p_categories, p_types) with ordinality as t(category, event_type, n)
        left join lateral (
            select k.kind_no from eventsource.kind as k
            where k.category = t.category and k.event_type = t.event_type order by k.category, k.event_type limit 1
        ) as k on true;
        exit when array_position(v_kinds, null) is null;
        insert into eventsource.kind (category, event_type)
        select distinct t.category, t.event_type
        from unnest(p_categories, p_types, v_kinds) as t(category, event_type, kind_no) where t.kind_no is null;
    end loop;
    return v_kinds;
end;
$$;
