-- Write what became of received commands and send the commands that go with it, in one transaction.
--
-- Called by workers instead of complete when a handler has sent something. p_outcomes and p_positions are as there; an element that says COMPLETE may hold
-- sends, an array as send takes, whose elements may say skip_known: an id that was sent before is passed over. Returns what complete
-- returns. What belongs to an outcome that is not applied is not sent. If one command is refused, nothing at all is written, and the error
-- names it: MS001 (detail: the queue), MS002 (detail: domain/batch), MS003 (detail: domain/id), MS006 (detail: domain/id/holder's id/unique key). The caller finds the culprit by halving.
-- Where a command to send has a unique key, it gives up (55P03) rather than wait for a transaction that is open and takes that key: the others of
-- the flush must not wait with it.
--
-- Locks: those of complete, then those of send, which are rows that nobody else has yet.
-- A crash before COMMIT leaves the commands leased and nothing sent; after it everything is done.
create or replace function commandbus.complete_and_send(p_domain text, p_outcomes jsonb, p_positions bigint[] default null)
returns table (command_id uuid, verdict text)
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
    v_ids uuid[];
    v_verdicts text[];
    v_sends jsonb;
    v_stored jsonb;
    v_holders jsonb;
    v_refused record;
    v_patience text := current_setting('lock_timeout');
begin
    select array_agg(c.command_id), array_agg(c.verdict) into v_ids, v_verdicts
    from commandbus.complete(p_domain, p_outcomes, p_positions) as c;

    -- By lease, too: an older lease's outcome may stand in the same flush, refused.
    select jsonb_agg(s.value order by o.place, s.place) into v_sends
    from jsonb_array_elements(p_outcomes) with ordinality as o(value, place)
    cross join jsonb_array_elements(o.value -> 'sends') with ordinality as s(value, place)
    where 'APPLIED' = v_verdicts[array_position(v_ids, (o.value ->> 'command_id')::uuid)]
      and exists (
          select from commandbus.command as c
          where c.command_id = any (array[(o.value ->> 'command_id')::uuid]) and c.domain || '' = p_domain
            and c.lease_no = (o.value ->> 'lease_no')::bigint and c.status = 'COMPLETED');

    if v_sends is not null then
        if jsonb_path_exists(v_sends, '$[*].unique_key') then
            perform set_config('lock_timeout', '100ms', true);
        end if;
        select
            jsonb_object_agg(s.domain || '/' || s.command_id, coalesce(s.refusal, '')),
            jsonb_object_agg(s.domain || '/' || s.command_id, s.holder_id) filter (where s.refusal = 'NOT_UNIQUE')
        into v_stored, v_holders
        from commandbus.send(v_sends) as s;
        perform set_config('lock_timeout', v_patience, true);
        select r.*, r.domain || '/' || r.command_id as key, v_stored ->> (r.domain || '/' || r.command_id) as refusal
        into v_refused
        from (
            select
                x.domain, x.command_id, x.reply_to, x.batch_id, x.skip_known, x.unique_key,
                row_number() over (partition by x.domain, x.command_id) > 1 as is_repeated
            from jsonb_to_recordset(v_sends) as x(
                domain text, command_id uuid, reply_to text, batch_id uuid, skip_known boolean, unique_key text)
        ) as r
        where v_stored ->> (r.domain || '/' || r.command_id) <> ''
           or (r.is_repeated or not coalesce(v_stored ? (r.domain || '/' || r.command_id), false))
              and not coalesce(r.skip_known, false)
        limit 1;
        if found then
            case v_refused.refusal
                when 'QUEUE_NOT_FOUND' then
                    raise exception 'a command to send has no queue' using errcode = 'MS001', detail = v_refused.domain || '__commands';
                when 'REPLY_QUEUE_NOT_FOUND' then
                    raise exception 'a command to send has no reply queue' using errcode = 'MS001', detail = v_refused.reply_to;
                when 'BATCH_NOT_FOUND' then
                    raise exception 'a command to send has no batch' using
                        errcode = 'MS002', detail = v_refused.domain || '/' || v_refused.batch_id;
                when 'NOT_UNIQUE' then
                    raise exception 'the unique key of a command to send is held' using
                        errcode = 'MS006', detail = v_refused.key || '/' || (v_holders ->> v_refused.key) || '/' || v_refused.unique_key;
                else
                    raise exception 'a command to send was sent before' using errcode = 'MS003', detail = v_refused.key;
            end case;
        end if;
    end if;
    return query select t.id, t.verdict from unnest(v_ids, v_verdicts) as t(id, verdict);
end;
$$;
