-- Append one event to one stream: what most appends are.
--
-- Called by PostgresEventLog, and by anything that can call SQL. As eventsource.append with one stream and one event, which says what the parameters
-- mean, what is returned, raised and locked, and what a crash leaves; there every value is an array, and here it is not, because taking a value out of an
-- array costs as much as writing it into a row. p_tags is an array in its text form, or null.
--
-- A stream that is as expected, or new, is appended to in two statements, each of which finds its row by a key. All else goes to append_many.
create or replace function eventsource.append_one(
    p_category text, p_tenant text, p_id text, p_expected integer,
    p_event_id uuid, p_type text, p_payload json, p_occurred_at timestamptz, p_event_version integer,
    p_correlation_id uuid, p_causation_id uuid, p_actor_id text, p_metadata json, p_tags text default null)
returns table (version integer, "position" bigint, repeated boolean)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_no bigint;
    v_before integer;
    v_kind integer;
    v_tags text[];
begin
    if p_expected <> 0 then
        update eventsource.stream as s set version = s.version + 1
        where s.category = p_category and s.tenant_id = p_tenant and s.stream_id = p_id
          and s.version > 0 and s.version < 2147483647
          and (p_expected < 0 or s.version = p_expected)
          and s.archived_at is null and s.tombstoned_at is null
        returning
            s.stream_no, s.version - 1,
            (select k.kind_no from eventsource.kind as k where k.category = p_category and k.event_type = p_type limit 1)
        into v_no, v_before, v_kind;
    end if;
    if v_no is null and p_expected in (0, -1) then
        insert into eventsource.stream as s (category, tenant_id, stream_id, version, created_at)
        values (p_category, p_tenant, p_id, 1, now())
        on conflict do nothing
        returning
            s.stream_no, 0,
            (select k.kind_no from eventsource.kind as k where k.category = p_category and k.event_type = p_type limit 1)
        into v_no, v_before, v_kind;
    end if;
    if p_expected < 0 and v_before > 0 and exists (
        select from eventsource.event as e where e.stream_no = v_no and e.version = v_before and e.event_id = p_event_id)
    then
        update eventsource.stream as s set version = v_before where s.stream_no = v_no;
        v_no := null;
    end if;
    if v_no is null then
        return query
            select a.version, a.position, a.repeated
            from eventsource.append_many(
                array[p_category], array[p_tenant], array[p_id], array[p_expected], array[1], array[p_event_id], array[p_type],
                array[p_payload], array[p_occurred_at], array[p_event_version], array[p_correlation_id], array[p_causation_id],
                array[p_actor_id], array[p_metadata::text], array[p_tags], null, 0, null) as a;
        return;
    end if;

    if p_tags is not null then
        v_tags := p_tags;
        perform eventsource.lock_keys(array[p_type], array[p_tags], null);
    elsif pg_advisory_xact_lock_shared(28019, hashtext('type ' || p_type) & 1023) is null then
        null;  -- an expression costs less than a statement
    end if;
    if v_kind is null then
        v_kind := (eventsource.kinds_of(array[p_category], array[p_type]))[1];
    end if;
    if coalesce(current_setting('mainstay.floor', true), '') = '' and eventsource.hold_floor() is null then
        null;
    end if;
    insert into eventsource.event (
        position, stream_no, version, kind_no, event_version, event_id, recorded_at, occurred_at,
        correlation_id, causation_id, actor_id, payload, metadata, tags)
    values (
        nextval('eventsource.event_position'), v_no, v_before + 1, v_kind, p_event_version, p_event_id, now(), p_occurred_at,
        p_correlation_id, p_causation_id, p_actor_id, p_payload, p_metadata, v_tags)
    returning position into position;
    if v_tags is not null then
        insert into eventsource.event_tag (tag, position) select t.tag, position from unnest(v_tags) as t(tag);
    end if;
    version := v_before + 1;
    repeated := false;
    return next;
end;
$$;
