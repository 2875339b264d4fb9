-- Put commands in: command row, audit SENT, batch delta and either a queue message or a deferred row for each.
--
-- Called by CommandBus.send, send_batch and create_batch, by fold_batches for completion commands, and by anything that can call
-- SQL. p_commands is an array of objects {domain, command_type, command_id, data, correlation_id, max_attempts, reply_to,
-- batch_id, delay (seconds), not_before, headers, key, priority, expires_at, unique_key, unique_for (seconds), on_conflict, successor_of}. Returns a
-- row for each command that was stored (refusal null; msg_id null when it waits for its time or its turn), for each that was skipped because its
-- unique key is held (refusal null, holder_id set) and for each that was refused by a check; a command with no row is a duplicate.
--
-- Locks: only what it inserts: by domain the claims to unique keys, see claim_unique, then commands in the order of ids. A sender waits for another
-- only if both send the same id or unique key.
-- A transaction that stays open holds up nobody. Before COMMIT nothing is visible; a crash leaves nothing.
create or replace function commandbus.send(p_commands jsonb)
returns table (domain text, command_id uuid, msg_id bigint, refusal text, holder_id uuid)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_timestamp();
    v_domain text;
    v_domains text[] := array[p_commands -> 0 ->> 'domain'];
    v_queue text;
    v_sequence regclass;
    v_ids uuid[];
    v_msg_ids bigint[];
    v_ready bigint[];
    v_messages jsonb[];
    v_headers jsonb[];
    v_deferred uuid[];
    v_in_line uuid[];
    v_keys text[];
    v_numbers bigint[];
    v_due timestamptz[];
    v_batches uuid[];
    v_stored integer := 0;
    v_is_unique boolean := jsonb_path_exists(p_commands, '$[*].unique_key');
    v_held uuid[];
    v_refusals text[];
    v_holders uuid[];
begin
    if jsonb_array_length(p_commands) = 0 then
        return;
    elsif jsonb_array_length(p_commands) > 1 then
        select array_agg(distinct c.value ->> 'domain') into v_domains from jsonb_array_elements(p_commands) as c;
        if v_is_unique then  -- the second of an id is a duplicate, whatever its key
            select jsonb_agg(f.value order by f.place) into p_commands
            from (
                select distinct on (c.value ->> 'domain', c.value ->> 'command_id') c.value, c.place
                from jsonb_array_elements(p_commands) with ordinality as c(value, place)
                order by c.value ->> 'domain', c.value ->> 'command_id', c.place
            ) as f;
        end if;
    end if;
    foreach v_domain in array v_domains loop
        v_queue := v_domain || '__commands';
        v_sequence := to_regclass(format('pgmq.%I', 'q_' || v_queue || '_msg_id_seq'));
        if v_sequence is null then
            return query
                select v_domain, (c.value ->> 'command_id')::uuid, null::bigint, 'QUEUE_NOT_FOUND', null::uuid
                from jsonb_array_elements(p_commands) as c where c.value ->> 'domain' = v_domain;
            continue;
        end if;
        if v_is_unique then
            select array_agg(u.command_id), array_agg(u.refusal), array_agg(u.holder_id) into v_held, v_refusals, v_holders
            from commandbus.claim_unique(v_domain, p_commands) as u;
            if v_held is not null then
                select coalesce(jsonb_agg(c.value order by c.place), '[]') into p_commands
                from jsonb_array_elements(p_commands) with ordinality as c(value, place)
                where c.value ->> 'domain' <> v_domain or (c.value ->> 'command_id')::uuid <> all (v_held);
                return query
                    select v_domain, t.id, null::bigint, t.refusal, t.holder_id
                    from unnest(v_held, v_refusals, v_holders) as t(id, refusal, holder_id);
            end if;
        end if;

        with numbered as materialized (
            select
                a.*, nextval('commandbus.subject_no') as subject_no,
                case when a.due_at is null and a.key is null
                    then commandbus.place(nextval(v_sequence), coalesce(a.priority, 0)) end as msg_id
            from (
                select
                    r.*,
                    case
                        when r.delay is not null then v_now + make_interval(secs => r.delay)
                        when r.not_before > v_now then r.not_before
                    end as due_at
                from jsonb_to_recordset(p_commands) as r(
                    domain text, command_type text, command_id uuid, data jsonb, correlation_id uuid, max_attempts integer,
                    reply_to text, batch_id uuid, delay double precision, not_before timestamptz, headers jsonb,
                    key text, priority integer, expires_at timestamptz, unique_key text)
                where r.domain = v_domain
                  and (r.batch_id is null or exists (
                      select from commandbus.batch as b where b.batch_id = r.batch_id and b.domain = v_domain))
                  and (r.reply_to is null or to_regclass(format('pgmq.%I', 'q_' || lower(r.reply_to))) is not null)
                offset 0  -- numbers are drawn for what passed, in the order given
            ) as a
        ), stored as (
            insert into commandbus.command as c (
                command_id, domain, subject_no, command_type, max_attempts, msg_id, correlation_id, batch_id, reply_to,
                created_at, updated_at, due_at, data, headers, key, priority, expires_at, unique_key)
            select
                n.command_id, v_domain, n.subject_no, n.command_type, coalesce(n.max_attempts, 3), n.msg_id, n.correlation_id, n.batch_id,
                n.reply_to, v_now, v_now, n.due_at, coalesce(n.data, '{}'), n.headers,
                n.key, coalesce(n.priority, 0), n.expires_at, n.unique_key
            from numbered as n
            order by n.command_id
            on conflict do nothing
            returning
                c.command_id, c.subject_no, c.msg_id, c.batch_id, c.due_at, c.headers, c.key,
                case when c.msg_id is not null then
                    commandbus.message(c.domain, c.command_type, c.command_id, c.correlation_id, c.data, c.reply_to)
                end as message
        ), audited as (
            insert into commandbus.audit (subject_no, event_type, ts)
            select s.subject_no, 'SENT', v_now from stored as s
        )
        select
            array_agg(s.command_id), array_agg(s.msg_id),
            array_agg(s.msg_id) filter (where s.msg_id is not null),
            array_agg(s.message) filter (where s.msg_id is not null),
            array_agg(s.headers) filter (where s.msg_id is not null),
            array_agg(s.command_id) filter (where s.due_at is not null),
            array_agg(s.due_at) filter (where s.due_at is not null),
            array_agg(s.command_id) filter (where s.key is not null and s.due_at is null),
            array_agg(s.key) filter (where s.key is not null and s.due_at is null),
            array_agg(s.subject_no) filter (where s.key is not null and s.due_at is null),
            array_agg(s.batch_id) filter (where s.batch_id is not null)
        into v_ids, v_msg_ids, v_ready, v_messages, v_headers, v_deferred, v_due, v_in_line, v_keys, v_numbers, v_batches
        from stored as s;

        if v_ready is not null then
            perform commandbus.put_messages(v_queue, v_ready, v_messages, v_headers);
        end if;
        if v_deferred is not null then
            insert into commandbus.deferred (command_id, domain, due_at)
            select d.id, v_domain, d.due_at from unnest(v_deferred, v_due) as d(id, due_at);
        end if;
        if v_in_line is not null then
            perform commandbus.line_up(v_domain, v_in_line, v_keys, v_numbers);
        end if;
        if v_batches is not null then
            insert into commandbus.batch_delta (domain, batch_id, total)
            select v_domain, b.id, count(*) from unnest(v_batches) as b(id) group by b.id;
        end if;
        return query select v_domain, t.id, t.msg, null::text, null::uuid from unnest(v_ids, v_msg_ids) as t(id, msg);

        v_stored := v_stored + coalesce(cardinality(v_ids), 0);
        if v_stored < jsonb_array_length(p_commands) then
            if v_is_unique then
                perform commandbus.release_unique(v_domain, p_commands);
            end if;
            return query
                select v_domain, n.command_id, null::bigint, n.refusal, null::uuid
                from (
                    select r.command_id, case
                        when r.batch_id is not null and not exists (
                            select from commandbus.batch as b where b.batch_id = r.batch_id and b.domain = v_domain)
                            then 'BATCH_NOT_FOUND'
                        when r.reply_to is not null and to_regclass(format('pgmq.%I', 'q_' || lower(r.reply_to))) is null
                            then 'REPLY_QUEUE_NOT_FOUND'
                    end as refusal
                    from jsonb_to_recordset(p_commands) as r(domain text, command_id uuid, reply_to text, batch_id uuid)
                    where r.domain = v_domain
                ) as n
                where n.refusal is not null;
        end if;
    end loop;
end;
$$;
