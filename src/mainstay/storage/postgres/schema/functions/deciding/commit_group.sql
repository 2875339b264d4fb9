-- Commit what was decided on many streams for many commands: events, next commands, replies and completions, of those that are still current.
--
-- Called by workers that let deciders decide in groups. p_outcomes is as complete takes it, in the order in which they were decided on, each element with the place (from 1) of its stream
-- besides, the version of that stream after it, and, if events follow from it, which event is the last of them: complete makes results and positions of these. p_sends says that some of them send commands. The arrays name the streams and the events, see
-- append_current.
-- Gives for each command, in the order of p_outcomes, APPLIED, REPEATED or STALE, as complete does; or that it must be decided on again: LOCKED, MOVED and CLOSED, because of its stream, see append_current, or BEHIND:
-- a command that was decided on before it, in the same stream, lost its lease, and what it led to is not written.
-- Also which of those that ended somebody waits for. Raises as complete_and_send and append_current do: then nothing at all is written, and the caller finds the culprit by halving.
--
-- Locks: queue rows in the order of msg_id, command rows in the order of ids, then those of append_current, which passes by streams that are locked. A second worker that holds a
-- newer lease waits for none of them; one that appends to a stream of the group waits for its end.
-- A crash before COMMIT leaves the commands leased and no event; after it everything is done, and a repetition is told so by its leases: it appends nothing.
create or replace function commandbus.commit_group(
    p_domain text, p_outcomes jsonb, p_sends boolean,
    p_categories text[], p_tenants text[], p_ids text[], p_expected integer[], p_counts integer[],
    p_places integer[], p_versions integer[], p_event_ids uuid[], p_kind_categories text[], p_kind_types text[], p_kinds integer[],
    p_payloads json[], p_occurred_at timestamptz[], p_event_versions integer[],
    p_correlation_ids uuid[], p_causation_ids uuid[], p_actor_ids text[], p_metadata text[], p_tags text[],
    out fates text[], out awaited uuid[])
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_table regclass := commandbus.queue_table(p_domain || '__commands');
    v_asked uuid[];
    v_msg_ids bigint[];
    v_streams integer[];
    v_ends integer[];
    v_leases bigint[];
    v_held uuid[];
    v_lost integer[];
    v_counts integer[] := p_counts;
    v_fates text[];
    v_positions bigint[];
    v_outcomes jsonb;
    v_ids uuid[];
    v_verdicts text[];
begin
    select
        array_agg(o.command_id order by o.n), array_agg(o.msg_id order by o.n), array_agg(o.stream order by o.n),
        array_agg(o.version order by o.n), array_agg(o.lease_no order by o.n)
    into v_asked, v_msg_ids, v_streams, v_ends, v_leases
    from rows from (jsonb_to_recordset(p_outcomes) as (command_id uuid, msg_id bigint, lease_no bigint, stream integer, version integer))
        with ordinality as o(command_id, msg_id, lease_no, stream, version, n);
    execute format('select q.msg_id from %s as q where q.msg_id = any ($1) order by q.msg_id for update', v_table)
    using v_msg_ids;
    v_held := array(
        select c.command_id
        from (select t.id, t.lease_no from unnest(v_asked, v_leases) as t(id, lease_no) order by t.id) as t
        join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain
        where c.lease_no = t.lease_no and c.status = 'IN_PROGRESS'
        for update of c);
    if cardinality(v_held) < cardinality(v_asked) then
        -- Of each stream: where the first command stands whose lease is lost. What was decided on from there is not written.
        select array_agg(f.first order by s.place), array_agg(least(s.count, coalesce(b.version, s.expected) - s.expected) order by s.place)
        into v_lost, v_counts
        from unnest(p_expected, p_counts) with ordinality as s(expected, count, place)
        cross join lateral (
            select min(t.n) as first from unnest(v_asked, v_streams) with ordinality as t(id, stream, n)
            where t.stream = s.place and t.id <> all (v_held)
        ) as f
        cross join lateral (
            select max(t.version) as version from unnest(v_streams, v_ends) with ordinality as t(stream, version, n)
            where t.stream = s.place and (f.first is null or t.n < f.first)
        ) as b;
    end if;

    select a.fates, a.positions into v_fates, v_positions
    from eventsource.append_current(
        p_categories, p_tenants, p_ids, p_expected, v_counts, p_places, p_versions, p_event_ids, p_kind_categories, p_kind_types, p_kinds,
        p_payloads, p_occurred_at, p_event_versions, p_correlation_ids, p_causation_ids, p_actor_ids, p_metadata, p_tags) as a;

    if v_lost is null and 'CURRENT' = all (v_fates) then
        v_outcomes := p_outcomes;
    else
        select jsonb_agg(o.value) into v_outcomes
        from jsonb_array_elements(p_outcomes) with ordinality as o(value, n)
        where v_lost is not null and v_asked[o.n] <> all (v_held)
           or v_fates[v_streams[o.n]] = 'CURRENT' and (v_lost is null or o.n < coalesce(v_lost[v_streams[o.n]], o.n + 1));
    end if;
    if v_outcomes is not null and p_sends then
        select array_agg(c.command_id), array_agg(c.verdict) into v_ids, v_verdicts
        from commandbus.complete_and_send(p_domain, v_outcomes, v_positions) as c;
    elsif v_outcomes is not null then
        select array_agg(c.command_id), array_agg(c.verdict) into v_ids, v_verdicts
        from commandbus.complete(p_domain, v_outcomes, v_positions) as c;
    end if;
    if v_lost is null and v_ids is not null and 'CURRENT' = all (v_fates) and 'APPLIED' = all (v_verdicts) then
        fates := array_fill('APPLIED'::text, array[cardinality(v_asked)]);
    else
        fates := array(
            select
                case
                    when d.verdict is not null then d.verdict
                    when v_lost is not null and t.n > v_lost[t.stream] then 'BEHIND'
                    else v_fates[t.stream] end
            from unnest(v_asked, v_streams) with ordinality as t(id, stream, n)
            left join unnest(v_ids, v_verdicts) as d(id, verdict) on d.id = t.id
            order by t.n);
    end if;
    awaited := array(
        select w.command_id from unnest(v_ids) as t(id)
        join commandbus.waiter as w on w.command_id = any (array[t.id]) and w.domain || '' = p_domain);
end;
$$;
