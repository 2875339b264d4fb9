-- Take commands that cannot start out of the queue; no attempt is spent.
--
-- Called by admit, which holds their queue rows and the domain's lock. Locks command rows in the order of ids. Returns the message ids
-- that are gone from the queue. A crash before COMMIT leaves them ready.
create or replace function commandbus.park(p_gate commandbus.gate, p_command_ids uuid[], p_msg_ids bigint[], p_reason text)
returns bigint[]
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_gone bigint[];
begin
    with moved as (
        update commandbus.command as c
        set msg_id = null, updated_at = v_now
        from (select t.id, t.msg from unnest(p_command_ids, p_msg_ids) as t(id, msg) order by t.id) as given
        where c.command_id = any (array[given.id]) and c.domain || '' = p_gate.domain and c.status = 'PENDING' and c.msg_id = given.msg
        returning c.command_id, c.subject_no, c.data, c.headers, c.expires_at, given.msg
    ), audited as (
        insert into commandbus.audit (subject_no, event_type, ts, details)
        select m.subject_no, 'PARKED', v_now, jsonb_build_object('reason', p_reason) from moved as m
    ), listed as (
        insert into commandbus.parked (command_id, domain, command_type, limit_key, place, reason, since, expires_at)
        select m.command_id, p_gate.domain, p_gate.command_type, commandbus.limit_key(p_gate.per, m.data, m.headers), m.msg,
               p_reason, v_now, m.expires_at
        from moved as m
    )
    select array_agg(m.msg) into v_gone from moved as m;
    if v_gone is not null then
        execute format('delete from %s where msg_id = any ($1)', commandbus.queue_table(p_gate.domain || '__commands')) using v_gone;
    end if;
    return coalesce(v_gone, '{}');
end;
$$;
