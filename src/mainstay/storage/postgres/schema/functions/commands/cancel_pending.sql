-- Cancel commands that wait, ready, deferred or for the turn of their key; if the request says running, ask for the end of those that are being
-- handled, too. The others are left alone and reported with their status.
--
-- Called by run_action for the commands of a batch. Locks as hold_waiting does, then command rows in the order of ids: those that wait, which
-- nobody else can move then, before those that are being handled. A crash before COMMIT
-- leaves them waiting.
create or replace function commandbus.cancel_pending(p_domain text, p_command_ids uuid[], p_request jsonb)
returns table (command_id uuid, applied boolean, status text)
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
    v_ids uuid[];
    v_msg_ids bigint[];
    v_to_reply uuid[];
    v_held uuid[];
    v_keyed uuid[];
    v_told jsonb := jsonb_strip_nulls(jsonb_build_object(
        'operator', p_request -> 'operator', 'reason', p_request -> 'reason', 'action_id', p_request -> 'action_id'));
    v_asked uuid[];
begin
    if p_command_ids is null then
        return;
    end if;
    v_held := commandbus.hold_waiting(p_domain, p_command_ids);
    select
        array_agg(l.command_id), array_agg(l.msg_id), array_agg(l.command_id) filter (where l.reply_to is not null),
        array_agg(l.command_id) filter (where l.key is not null)
    into v_ids, v_msg_ids, v_to_reply, v_keyed
    from (
        select c.command_id, c.msg_id, c.reply_to, c.key
        from (select distinct t.id from unnest(v_held) as t(id) order by t.id) as given
        join commandbus.command as c on c.command_id = any (array[given.id]) and c.domain || '' = p_domain
        where c.status = 'PENDING'
        order by c.command_id
        for update of c
    ) as l;
    perform commandbus.take_out(p_domain, v_ids, v_msg_ids);

    with changed as (
        update commandbus.command as c
        set status = 'CANCELED', msg_id = null, due_at = null, updated_at = v_now,
            error_code = 'CANCELED', error_message = p_request ->> 'reason'
        from (select t.id from unnest(v_ids) as t(id) order by t.id) as chosen
        where c.command_id = any (array[chosen.id]) and c.domain || '' = p_domain
        returning c.subject_no, c.batch_id, c.command_id
    ), audited as (
        insert into commandbus.audit (subject_no, event_type, ts, details)
        select ch.subject_no, 'CANCELED', v_now, v_told from changed as ch order by ch.command_id
    )
    insert into commandbus.batch_delta (domain, batch_id, canceled)
    select p_domain, ch.batch_id, count(*) from changed as ch where ch.batch_id is not null group by ch.batch_id;
    if v_to_reply is not null then
        perform commandbus.reply(p_domain, v_to_reply);
    end if;
    if v_keyed is not null then
        perform commandbus.release_keys(p_domain, v_keyed);
    end if;
    if (p_request -> 'running')::boolean then
        v_asked := array(select commandbus.ask_for_end(p_domain, p_command_ids, v_told));
    end if;
    return query
        select t.id, true, 'PENDING' from unnest(v_ids) as t(id)
        union all
        select c.command_id, c.command_id = any (coalesce(v_asked, '{}')), c.status
        from (select distinct t.id from unnest(p_command_ids) as t(id)) as given
        join commandbus.command as c on c.command_id = any (array[given.id]) and c.domain || '' = p_domain
        where given.id <> all (coalesce(v_ids, '{}'));
end;
$$;
