-- Take turns with appends that must not find certain events: lock the types and tags of what will be appended, shared, and those of the
-- condition, if there is one, exclusively.
--
-- An append with a condition looks, and then appends; nothing that fits may be committed in between. Whatever fits an item of its query
-- has all of the item's tags, and one of its types: so it is enough to lock one tag, or, of an item without tags, all types. An item without
-- either stands for every event, and what it locks is the table, in a mode that keeps inserts out.
--
-- The keys are 1,024, hashed, and taken in their order, after the locks of the streams: two single appends never wait for each other in a
-- circle. Several appends in one transaction may, and PostgreSQL ends one of them.
--
-- Called by append and prepare_import. p_tags are arrays in their text form, one for each event. Locks, and waits, as said, until the transaction ends.
create or replace function eventsource.lock_keys(p_types text[], p_tags text[], p_items jsonb)
returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
as $$
declare
    v_key record;
begin
    if p_tags is null and p_items is null and cardinality(p_types) = 1 then
        perform pg_advisory_xact_lock_shared(28019, hashtext('type ' || p_types[1]) & 1023);
        return;
    end if;
    for v_key in
        select hashtext(w.name) & 1023 as no, bool_or(w.alone) as alone
        from (
            select 'type ' || t.name as name, false as alone from unnest(p_types) as t(name)
            union
            select 'tag ' || t.name, false from unnest(p_tags) as a(tags) cross join unnest(a.tags::text[]) as t(name)
            union all
            select 'tag ' || (i.value -> 'tags' ->> 0), true
            from jsonb_array_elements(p_items) as i where i.value -> 'tags' ->> 0 is not null
            union all
            select 'type ' || t.name, true
            from jsonb_array_elements(p_items) as i
            cross join jsonb_array_elements_text(i.value -> 'types') as t(name)
            where i.value -> 'tags' ->> 0 is null
        ) as w
        group by 1 order by 1
    loop
        if v_key.alone then
            perform pg_advisory_xact_lock(28019, v_key.no);
        else
            perform pg_advisory_xact_lock_shared(28019, v_key.no);
        end if;
    end loop;
    if jsonb_path_exists(p_items, '$[*] ? (!exists (@.tags[*]) && !exists (@.types[*]))') then
        lock table eventsource.event in share row exclusive mode;
    end if;
end;
$$;
