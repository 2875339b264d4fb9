-- Append to several streams, under a condition, or where something is not as usual: what eventsource.append leaves to it.
--
-- Called by append, which says what is given, returned, raised and locked.
create or replace function eventsource.append_many(
    p_categories text[], p_tenants text[], p_ids text[], p_expected integer[], p_counts integer[],
    p_event_ids uuid[], p_types text[], p_payloads json[], p_occurred_at timestamptz[], p_event_versions integer[],
    p_correlation_ids uuid[], p_causation_ids uuid[], p_actor_ids text[], p_metadata text[], p_tags text[],
    p_items jsonb, p_after bigint, p_tenant text)
returns table (version integer, "position" bigint, repeated boolean)
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
    c_most constant integer := 2147483647;
    v_streams integer := cardinality(p_categories);
    v_events integer := cardinality(p_event_ids);
    v_append record;
    v_stream eventsource.stream;
    v_no bigint;
    v_version integer;
    v_there uuid[];
    v_last bigint;
    v_numbers bigint[] := array_fill(0::bigint, array[v_streams]);
    v_befores integer[] := array_fill(0, array[v_streams]);
    v_lasts bigint[] := array_fill(null::bigint, array[v_streams]);
    v_codes text[] := array_fill(null::text, array[v_streams]);
    v_details jsonb[] := array_fill(null::jsonb, array[v_streams]);
    v_places integer[];
    v_kinds integer[];
    v_first bigint;
begin
    for v_append in
        select
            a.category, a.tenant_id, a.stream_id, a.expected, a.count, a.place,
            sum(a.count) over (order by a.place) - a.count as start
        from unnest(p_categories, p_tenants, p_ids, p_expected, p_counts)
            with ordinality as a(category, tenant_id, stream_id, expected, count, place)
        order by a.category collate "C", a.tenant_id collate "C", a.stream_id collate "C"
    loop
        v_no := null;
        v_there := null;
        if v_append.count > 0 and v_append.expected <> 0 then
            update eventsource.stream as s set version = s.version + v_append.count
            where s.category = v_append.category and s.tenant_id = v_append.tenant_id and s.stream_id = v_append.stream_id
              and s.version > 0 and s.version <= c_most - v_append.count
              and (v_append.expected < 0 or s.version = v_append.expected)
              and s.archived_at is null and s.tombstoned_at is null
            returning s.stream_no, s.version - v_append.count into v_no, v_version;
        end if;
        if v_no is null and v_append.count > 0 and v_append.expected in (0, -1) then
            insert into eventsource.stream (category, tenant_id, stream_id, version, created_at)
            values (v_append.category, v_append.tenant_id, v_append.stream_id, v_append.count, now())
            on conflict do nothing
            returning stream_no, 0 into v_no, v_version;
        end if;
        if v_no is null then
            if not exists (
                select from eventsource.stream as s
                where s.category = v_append.category and s.tenant_id = v_append.tenant_id and s.stream_id = v_append.stream_id)
            then
                insert into eventsource.stream (category, tenant_id, stream_id)
                values (v_append.category, v_append.tenant_id, v_append.stream_id)
                on conflict do nothing;
            end if;
            select s.* into strict v_stream from eventsource.stream as s
            where s.category = v_append.category and s.tenant_id = v_append.tenant_id and s.stream_id = v_append.stream_id
            for update;
            v_version := v_stream.version;
        end if;
        v_befores[v_append.place] := v_version;

        if v_append.count > 0 and v_version > greatest(v_append.expected, 0) then
            select array_agg(e.event_id order by e.version), max(e.position) into v_there, v_last
            from eventsource.event as e
            where e.stream_no = coalesce(v_no, v_stream.stream_no)
              and e.version > case when v_append.expected < 0 then v_version - v_append.count else v_append.expected end
              and e.version <= case when v_append.expected < 0 then v_version else v_append.expected + v_append.count end;
        end if;
        if v_there is distinct from p_event_ids[v_append.start + 1:v_append.start + v_append.count] then
            null;
        elsif v_append.count > 0 then
            v_lasts[v_append.place] := v_last;
            v_befores[v_append.place] := case when v_append.expected < 0 then v_version else v_append.expected + v_append.count end;
        end if;

        if v_there && p_event_ids[v_append.start + 1:v_append.start + v_append.count] then
            v_codes[v_append.place] := 'MS102';
            v_details[v_append.place] := jsonb_build_object('event_ids', (
                select jsonb_agg(t.id order by t.n)
                from unnest(p_event_ids[v_append.start + 1:v_append.start + v_append.count]) with ordinality as t(id, n)
                where t.id = any (v_there)));
        end if;
        if v_no is null then
            if v_append.count > 0 and v_stream.tombstoned_at is not null then
                v_codes[v_append.place] := 'MS103';
                v_details[v_append.place] := '{}';
            elsif v_append.count > 0 and v_stream.archived_at is not null then
                v_codes[v_append.place] := 'MS104';
                v_details[v_append.place] := '{}';
            elsif v_codes[v_append.place] is not null then
                null;
            elsif v_append.expected >= 0 and v_version <> v_append.expected or v_append.expected = -2 and v_version = 0
                or v_version > c_most - v_append.count
            then
                v_codes[v_append.place] := 'MS101';
                v_details[v_append.place] := jsonb_build_object('expected', v_append.expected, 'actual', v_version);
            elsif v_append.count > 0 then
                update eventsource.stream as s
                set version = s.version + v_append.count, created_at = coalesce(s.created_at, now())
                where s.stream_no = v_stream.stream_no;
                v_no := v_stream.stream_no;
            end if;
        elsif v_lasts[v_append.place] is not null then
            update eventsource.stream as s set version = v_version where s.stream_no = v_no;
        end if;
        v_numbers[v_append.place] := v_no;
    end loop;

    if array_to_string(v_codes, '') <> '' then
        if v_events > 0 and not exists (
            select from unnest(p_counts, v_lasts) as t(count, last) where t.count > 0 and t.last is null)
        then
            return query
                select t.version, t.last, t.last is not null from unnest(v_befores, v_lasts) as t(version, last);
            return;
        end if;
        for i in 1..v_streams loop
            if v_codes[i] is not null then
                raise exception 'the append to % % was refused', p_categories[i], p_ids[i] using
                    errcode = v_codes[i],
                    detail = (v_details[i] || jsonb_build_object(
                        'stream', p_categories[i] || '/' || p_ids[i] || coalesce('@' || nullif(p_tenants[i], ''), '')))::text;
            end if;
        end loop;
    end if;

    perform eventsource.lock_keys(p_types, p_tags, p_items);
    if p_items is not null then
        if current_setting('transaction_isolation') <> 'read committed' then
            raise exception 'an append with a condition needs a transaction that is READ COMMITTED' using errcode = 'MS107';
        end if;
        select min(f.position) into v_first
        from jsonb_array_elements(case when p_items = '[]' then '[{}]' else p_items end) as i
        cross join lateral unnest(eventsource.fitting(
            case when jsonb_array_length(i.value -> 'types') > 0 then array(
                select k.kind_no from eventsource.kind as k
                where k.event_type in (select t.name from jsonb_array_elements_text(i.value -> 'types') as t(name))) end,
            array(select t.name from jsonb_array_elements_text(i.value -> 'tags') as t(name)),
            p_tenant, true, p_after, 9223372036854775807, 1)) as f(position);
        if v_first is not null then
            raise exception 'an event at position % fits the condition', v_first using
                errcode = 'MS105', detail = jsonb_build_object('position', v_first)::text;
        end if;
    end if;

    if v_streams = 1 and v_events > 0 then
        v_kinds := eventsource.kinds_of(array_fill(p_categories[1], array[v_events]), p_types);
        perform eventsource.hold_floor();
        v_no := v_numbers[1];
        v_version := v_befores[1];
        insert into eventsource.event (
            position, stream_no, version, kind_no, event_version, event_id, recorded_at, occurred_at,
            correlation_id, causation_id, actor_id, payload, metadata, tags)
        select
            nextval('eventsource.event_position'), v_no, v_version + e.n, e.kind_no, e.event_version, e.event_id, now(), e.occurred_at,
            e.correlation_id, e.causation_id, e.actor_id, e.payload, e.metadata::json, e.tags::text[]
        from unnest(
            p_event_ids, v_kinds, p_payloads, p_occurred_at, p_event_versions,
            p_correlation_ids, p_causation_ids, p_actor_ids, p_metadata, p_tags)
            with ordinality as e(
                event_id, kind_no, payload, occurred_at, event_version, correlation_id, causation_id, actor_id, metadata, tags, n);
        v_lasts[1] := currval('eventsource.event_position');
    elsif v_events > 0 then
        v_places := array(
            select c.place::integer
            from unnest(p_counts) with ordinality as c(count, place) cross join generate_series(1, c.count) order by c.place);
        v_kinds := eventsource.kinds_of(
            array(select p_categories[t.place] from unnest(v_places) with ordinality as t(place, n) order by t.n), p_types);
        perform eventsource.hold_floor();
        with written as (
            insert into eventsource.event (
                position, stream_no, version, kind_no, event_version, event_id, recorded_at, occurred_at,
                correlation_id, causation_id, actor_id, payload, metadata, tags)
            select
                nextval('eventsource.event_position'), v_numbers[e.place],
                v_befores[e.place] + (e.n - array_position(v_places, e.place) + 1)::integer,
                e.kind_no, e.event_version, e.event_id, now(), e.occurred_at,
                e.correlation_id, e.causation_id, e.actor_id, e.payload, e.metadata::json, e.tags::text[]
            from unnest(
                v_places, p_event_ids, v_kinds, p_payloads, p_occurred_at, p_event_versions,
                p_correlation_ids, p_causation_ids, p_actor_ids, p_metadata, p_tags)
                with ordinality as e(
                    place, event_id, kind_no, payload, occurred_at, event_version, correlation_id, causation_id, actor_id,
                    metadata, tags, n)
            returning position, stream_no
        )
        select array_agg(l.last order by n.place) into v_lasts
        from unnest(v_numbers) with ordinality as n(no, place)
        left join (select w.stream_no, max(w.position) as last from written as w group by w.stream_no) as l on l.stream_no = n.no;
    end if;
    if p_tags is not null then
        insert into eventsource.event_tag (tag, position)
        select t.tag, e.position
        from unnest(v_numbers, v_befores, p_counts) as n(no, before, count)
        join eventsource.event as e on e.stream_no = n.no and e.version > n.before and e.version <= n.before + n.count
        cross join unnest(e.tags) as t(tag);
    end if;
    return query
        select t.before + t.count, t.last, false from unnest(v_befores, p_counts, v_lasts) as t(before, count, last);
end;
$$;
