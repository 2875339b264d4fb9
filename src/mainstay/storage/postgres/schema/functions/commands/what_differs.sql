-- What differs between two objects, as the trail keeps it: {before, after}; null if nothing does. A null is as good as nothing.
--
-- Called by the triggers that keep the trail.
create or replace function commandbus.what_differs(p_before jsonb, p_after jsonb)
returns jsonb
language sql immutable
as $$
    select jsonb_build_object(
        'before', coalesce(jsonb_object_agg(k.name, p_before -> k.name) filter (where coalesce(p_before -> k.name, 'null') <> 'null'), '{}'),
        'after', coalesce(jsonb_object_agg(k.name, p_after -> k.name) filter (where coalesce(p_after -> k.name, 'null') <> 'null'), '{}'))
    from jsonb_object_keys(coalesce(p_before, '{}') || coalesce(p_after, '{}')) as k(name)
    where coalesce(p_before -> k.name, 'null') <> coalesce(p_after -> k.name, 'null')
    having count(*) > 0
$$;
