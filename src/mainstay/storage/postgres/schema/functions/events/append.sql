-- Append events to streams, all or nothing; one call, however many events and streams.
--
-- Called by PostgresEventLog, and by anything that can call SQL. Streams are named in the order in which their events get positions: category, tenant
-- (empty: none), id, what version is expected (0: never written, above: exactly this, -1: any, -2: any but 0), and how many events it gets; none makes
-- it a guard. Events stand in parallel arrays, those of the first stream first, or null where all would be null (p_correlation_ids to p_tags); p_types and p_event_versions have one for each, or one for all. p_tags are arrays in their text form. p_items is the query of a
-- condition, an array of {types, tags}, or null; p_after its position, p_tenant its tenant. Returns a row for each stream, in order: its version, the position
-- of its last event (null for a guard), and whether the events were there already.
--
-- Raises, with a JSON object as detail: MS101 a stream is not as expected; MS102 some of the events are where they would be written; MS103 the stream is tombstoned; MS104 it is
-- archived; MS105 an event fits the condition; MS107 a condition in a transaction that is not READ COMMITTED, where a look does not see
-- what was committed a moment ago. Of several the first stream's. Nothing is written then, and the caller's transaction has failed, unless there is a savepoint.
--
-- Locks, each until the transaction ends: the rows of the streams by category, tenant and id, which it makes if they are missing; keys (lock_keys); the floor
-- (hold_floor), which never waits. Positions are drawn after all that, so a stream's versions and positions have one order, and whoever has seen an event appends
-- above it. A second append to a stream waits for the first to end and then sees what became of it. A crash before COMMIT leaves
-- nothing but positions that nobody uses; after it, a repetition of the call finds the events there and says so.
--
-- One stream, without a condition and as expected, is done here, with one setting of the function's own, for each costs as much as a statement; every statement
-- finds its row by a key, so no plan needs to be forbidden. All else goes to append_many. One event alone is better taken to append_one.
create or replace function eventsource.append(
    p_categories text[], p_tenants text[], p_ids text[], p_expected integer[], p_counts integer[],
    p_event_ids uuid[], p_types text[], p_payloads json[], p_occurred_at timestamptz[], p_event_versions integer[],
    p_correlation_ids uuid[], p_causation_ids uuid[], p_actor_ids text[], p_metadata text[], p_tags text[],
    p_items jsonb default null, p_after bigint default 0, p_tenant text default null)
returns table (version integer, "position" bigint, repeated boolean)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_count integer := p_counts[1];
    v_expected integer := p_expected[1];
    v_no bigint;
    v_before integer;
    v_kinds integer[];
    v_kind integer;
    v_form integer;
begin
    if cardinality(p_counts) = 1 and v_count > 0 and p_items is null then
        if v_expected <> 0 then
            update eventsource.stream as s set version = s.version + v_count
            where s.category = p_categories[1] and s.tenant_id = p_tenants[1] and s.stream_id = p_ids[1]
              and s.version > 0 and s.version <= 2147483647 - v_count
              and (v_expected < 0 or s.version = v_expected)
              and s.archived_at is null and s.tombstoned_at is null
            returning s.stream_no, s.version - v_count into v_no, v_before;
        end if;
        if v_no is null and v_expected in (0, -1) then
            insert into eventsource.stream as s (category, tenant_id, stream_id, version, created_at)
            values (p_categories[1], p_tenants[1], p_ids[1], v_count, now())
            on conflict do nothing
            returning s.stream_no, 0 into v_no, v_before;
        end if;
        if v_expected < 0 and v_before > 0 and exists (
            select from eventsource.event as e
            where e.stream_no = v_no and e.version > v_before - v_count and e.version <= v_before and e.event_id = any (p_event_ids))
        then
            update eventsource.stream as s set version = v_before where s.stream_no = v_no;
            v_no := null;
        end if;
    end if;
    if v_no is null then
        return query
            select a.version, a.position, a.repeated
            from eventsource.append_many(
                p_categories, p_tenants, p_ids, p_expected, p_counts, p_event_ids,
                case when cardinality(p_types) = 1 then array_fill(p_types[1], array[cardinality(p_event_ids)]) else p_types end,
                p_payloads, p_occurred_at,
                case when cardinality(p_event_versions) = 1
                    then array_fill(p_event_versions[1], array[cardinality(p_event_ids)]) else p_event_versions end,
                p_correlation_ids, p_causation_ids, p_actor_ids, p_metadata, p_tags, p_items, p_after, p_tenant) as a;
        return;
    end if;

    perform eventsource.lock_keys(p_types, p_tags, null);
    v_kinds := eventsource.kinds_of(array_fill(p_categories[1], array[cardinality(p_types)]), p_types);
    if cardinality(p_types) = 1 then
        v_kind := v_kinds[1];
    end if;
    if cardinality(p_event_versions) = 1 then
        v_form := p_event_versions[1];
    end if;
    perform eventsource.hold_floor();
    insert into eventsource.event (
        position, stream_no, version, kind_no, event_version, event_id, recorded_at, occurred_at,
        correlation_id, causation_id, actor_id, payload, metadata, tags)
    select
        nextval('eventsource.event_position'), v_no, v_before + e.n, coalesce(e.kind_no, v_kind),
        coalesce(e.event_version, v_form), e.event_id, now(), e.occurred_at,
        e.correlation_id, e.causation_id, e.actor_id, e.payload, e.metadata::json, e.tags::text[]
    from unnest(
        p_event_ids, v_kinds, p_payloads, p_occurred_at, p_event_versions, p_correlation_ids, p_causation_ids, p_actor_ids, p_metadata,
        p_tags) with ordinality as e(
            event_id, kind_no, payload, occurred_at, event_version, correlation_id, causation_id, actor_id, metadata, tags, n);
    if p_tags is not null then
        insert into eventsource.event_tag (tag, position)
        select t.tag, e.position
        from eventsource.event as e cross join unnest(e.tags) as t(tag)
        where e.stream_no = v_no and e.version > v_before and e.version <= v_before + v_count;
    end if;
    version := v_before + v_count;
    position := currval('eventsource.event_position');
    repeated := false;
    return next;
end;
$$;
