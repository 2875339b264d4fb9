-- Lease up to p_limit commands of a domain, by priority, oldest first.
--
-- Called by workers. Promotes what is due and whose turn it is, leases messages for p_lease seconds, and for each sets its command IN_PROGRESS, counts the
-- attempt, draws a new lease_no and audits RECEIVED. What costs a walk in pgmq.read stays out of the queue (see deferred), so
-- the cost depends on p_limit and on what is in flight, not on what waits.
--
-- In domains that have gates (pauses, limits; see 0003_gates.sql) parked commands that may start come first, at most p_at_once of them, and
-- what may not start is parked: limited says that finishing a command may let another start, start_within (seconds) that it must start
-- soon or be given back. In domains with breakers their probes and what drips back come first, see work_breakers. Nothing returned then does not say that nothing is ready; about_to_sleep does.
--
-- Locks: queue rows in the order of msg_id, skipping locked ones; then command rows; then, once in a batch's
-- life, its row; last, now and then and never waiting, the queue's ranges. Two statements, because a queue read inside a larger statement sees a later snapshot than the rest of it: a message
-- committed in between would be leased without its command, and stand still for a whole lease.
-- Plans are pinned, here and in the functions beside this one: `= any (array[id])` gives the primary key's index nothing to be
-- merged by, the domain as an expression gives it nothing to be scanned by, and so, whatever the statistics say (after an
-- install: nothing), what is left is one lookup for each command.
-- Messages are sought where live_range says that some may be, which is everywhere until a receive walked over many more index entries than it
-- leased; what is dead and cannot be removed, because of an old snapshot, is then walked over once: see narrow.
-- Commands that expired, or whose canceling was asked for, end here. Each comes as a row of nulls beside its id: whoever waits for it is
-- to be told after the COMMIT, and if there was nothing else among p_limit messages, ask again.
-- A crash before COMMIT leaves everything ready; after it the commands are leased, and come back when the lease ends.
create or replace function commandbus.receive(
    p_domain text, p_limit integer, p_lease double precision, p_worker text, p_at_once integer default null)
returns table (command_id uuid, msg_id bigint, lease_no bigint, attempt integer, max_attempts integer, message jsonb,
               headers jsonb, created_at timestamptz, key text, in_batch boolean, limited boolean, start_within double precision)
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
    v_now timestamptz := clock_timestamp();
    v_table regclass := commandbus.queue_table(p_domain || '__commands');
    v_found record;
    v_leased commandbus.leased_message[];
    v_gone bigint[] := '{}';
    v_taken integer;
    v_batches uuid[];
    v_is_gated boolean;
    v_is_held boolean;
    v_is_due boolean;
    v_is_known boolean;  -- where messages or hints may be
    v_has_hints boolean;
    v_released record;
    v_admitted record;
    v_left integer := p_limit;
    v_limited jsonb;
    v_overdue uuid[];
    v_parked uuid[] := '{}';
    c_far constant bigint := 2000;  -- index entries beyond those leased that a walk must meet before anything is narrowed
    c_step constant double precision := 20;  -- once it is narrowed: so many entries and commands, times the root of those leased at a
                                             -- time, until it is narrowed further, which then costs about what the walks cost
    c_long constant bigint := 10000;  -- commands, if there are not so many entries
    c_few constant bigint := 1000;  -- dead rows that are not worth ranges
    v_live commandbus.live_range;
    v_index regclass := to_regclass(format('pgmq.%I', 'q_' || p_domain || '__commands_pkey'));
    v_walked bigint;
    v_step bigint;
begin
    -- Most domains have none of these, so they are asked for at once: a statement costs as much as what it finds out.
    select
        exists (select from commandbus.gate as g where g.domain = p_domain),
        exists (select from commandbus.breaker as b where b.domain = p_domain),
        exists (select from commandbus.deferred as d where d.domain = p_domain and d.due_at <= v_now),
        k.is_known,
        exists (
            select from commandbus.key_hint as h
            where h.domain = p_domain and h.hint_no >= case when k.is_known then commandbus.first_hint(p_domain) else 0 end)
    into v_is_gated, v_is_held, v_is_due, v_is_known, v_has_hints
    from (select exists (select from commandbus.live_range as l where l.domain = p_domain) as is_known offset 0) as k;
    if (v_is_gated or v_is_held) and exists (select from commandbus.parked as p where p.domain = p_domain and p.expires_at <= v_now) then
        return query select t.id, null::bigint, null::bigint, 0, 0, null::jsonb, null::jsonb, v_now, null::text,
            false, false, null::double precision from unnest(commandbus.expire_parked(p_domain, p_limit)) as t(id);
    end if;
    if v_is_gated and commandbus.is_paused(p_domain) then
        return;
    end if;
    if v_is_held then
        perform commandbus.work_breakers(p_domain);
        v_is_due := exists (select from commandbus.deferred as d where d.domain = p_domain and d.due_at <= v_now);
    end if;
    if v_is_due then
        perform commandbus.promote(p_domain, p_limit);
    end if;
    if v_is_held or v_is_due then
        v_has_hints := exists (
            select from commandbus.key_hint as h where h.domain = p_domain and h.hint_no >= commandbus.first_hint(p_domain));
    end if;
    if v_has_hints then
        perform commandbus.promote_keys(p_domain, greatest(p_limit, 200));
    end if;
    if v_is_gated then
        v_released := commandbus.release_parked(p_domain, least(p_limit, p_at_once), p_lease);
        v_left := p_limit - coalesce(cardinality(v_released.leased), 0);
    end if;

    if v_is_known then
        v_live := commandbus.live_range_of(p_domain, v_table);
    end if;
    v_walked := pg_stat_get_xact_tuples_returned(v_index);
    v_found := commandbus.lease_messages(p_domain, v_left, p_lease, case when v_live.no is not null then v_live.ranges end);
    v_leased := v_found.leased;
    v_walked := pg_stat_get_xact_tuples_returned(v_index) - v_walked - 2 * coalesce(cardinality(v_leased), 0);
    if v_leased is null and not v_is_gated then
        if v_live.no is not null then  -- vacuum has been there; or a part of a backup was restored
            if (pg_stat_get_dead_tuples(v_table) < c_few or v_live.seen > coalesce(pg_sequence_last_value(
                to_regclass(format('pgmq.%I', 'q_' || p_domain || '__commands_msg_id_seq'))), 0))
               and pg_try_advisory_xact_lock(hashtextextended('mainstay.live_range.' || p_domain, 0))
            then
                perform commandbus.forget_live_range(p_domain);
            end if;
        end if;
        return;
    end if;

    if v_found.is_reread then
        v_gone := commandbus.expire_leases(p_domain, v_leased);
        v_now := clock_timestamp();
    end if;

    if v_is_gated then
        v_admitted := commandbus.admit(p_domain, coalesce(p_at_once, p_limit) - p_limit + v_left, v_leased);
        v_leased := v_released.leased || v_admitted.leased;
        v_limited := coalesce(v_released.limited || v_admitted.limited, v_released.limited, v_admitted.limited);
        if v_leased is null then
            return;
        end if;
        v_parked := array(  -- a second message of such a command is a stray
            select p.command_id from unnest(v_leased) as m
            join commandbus.parked as p on p.command_id = any (array[m.command_id]) and p.domain || '' = p_domain);
        v_now := clock_timestamp();
    end if;

    if v_is_held then  -- whoever ends a probe wakes somebody who sees what follows
        v_limited := coalesce(v_limited || p.probes, v_limited, p.probes) from (
            select jsonb_object_agg(b.probe_id, null::double precision) as probes from commandbus.breaker as b
            where b.domain = p_domain and b.probe_id in (select m.command_id from unnest(v_leased) as m)) as p;
    end if;

    return query
        with taken as (
            update commandbus.command as c
            set status = 'IN_PROGRESS', attempts = c.attempts + 1, lease_no = c.lease_no + 1, updated_at = v_now,
                msg_id = (g.m).msg_id, data = coalesce(c.data, (g.m).message -> 'data')
            from (select unnest(v_leased) as m offset 0) as g
            where c.command_id = any (array[(g.m).command_id]) and c.domain || '' = p_domain and c.status = 'PENDING'
              and (c.msg_id = (g.m).msg_id or c.msg_id is null and c.due_at is null and c.key is null and c.command_id <> all (v_parked))
              and (c.expires_at is null or c.expires_at > v_now) and c.cancel_request is null
            returning c.command_id, c.msg_id, c.lease_no, c.attempts, c.max_attempts, (g.m).message, (g.m).headers, c.created_at, c.subject_no,
                c.key, c.batch_id is not null as in_batch
        ), audited as (
            insert into commandbus.audit (subject_no, event_type, ts, details)
            select t.subject_no, 'RECEIVED', v_now, jsonb_build_object('attempt', t.attempts, 'worker', p_worker)
            from taken as t
        )
        select t.command_id, t.msg_id, t.lease_no, t.attempts, t.max_attempts, t.message, t.headers, t.created_at, t.key, t.in_batch,
               case when v_limited is not null then v_limited ? t.command_id::text end,
               case when v_limited is not null then (v_limited ->> t.command_id::text)::double precision end
        from taken as t order by t.msg_id;
    get diagnostics v_taken = row_count;

    if v_taken + cardinality(v_gone) < cardinality(v_leased) then
        select array_agg(c.command_id) into v_overdue
        from unnest(v_leased) as m
        join commandbus.command as c on c.command_id = any (array[m.command_id]) and c.domain || '' = p_domain
        where c.msg_id = m.msg_id and c.status = 'PENDING' and (c.expires_at <= v_now or c.cancel_request is not null);
        if v_overdue is not null then
            perform commandbus.call_off(p_domain, v_overdue, null);
            return query select t.id, null::bigint, null::bigint, 0, 0, null::jsonb, null::jsonb, v_now, null::text,
                false, false, null::double precision from unnest(v_overdue) as t(id);
        end if;
        perform commandbus.settle_strays(p_domain, array(
            select m.msg_id from unnest(v_leased) as m
            where m.msg_id <> all (v_gone) and not exists (
                select from commandbus.command as c
                where c.command_id = any (array[m.command_id]) and c.domain || '' = p_domain and c.msg_id = m.msg_id and c.status = 'IN_PROGRESS')));
    end if;

    if exists (select from commandbus.batch as b where b.domain = p_domain and b.started_at is null) then
        select array_agg(distinct b.batch_id) into v_batches
        from unnest(v_leased) as m
        join commandbus.command as c on c.command_id = any (array[m.command_id]) and c.domain || '' = p_domain
        join commandbus.batch as b on b.batch_id = any (array[c.batch_id]) and b.domain || '' = p_domain
        where c.status = 'IN_PROGRESS' and coalesce(b.started_at, 'infinity') = 'infinity';  -- else every look may walk batch_unstarted
    end if;
    if v_batches is not null then
        perform commandbus.start_batches(p_domain, v_batches);
    end if;
    if v_found.leased is not null and (v_live.no is not null or v_walked > c_far) then
        v_step := c_step * sqrt(cardinality(v_found.leased));
        if v_live.no is null
           or v_found.last_msg_id not between v_live.tried and v_live.tried + (case when v_walked > v_step then v_step else c_long end)
        then
            perform commandbus.narrow(p_domain, array(select m.msg_id from unnest(v_found.leased) as m));
        end if;
    end if;
end;
$$;
