-- Complete one command in the transaction of its handler, whose effects COMMIT with it or not at all.
--
-- Called by workers in one script: DELETE of the command's message, this, that COMMIT; an error here ends the script before it. The message is
-- deleted by the script because its table has another name in each domain: here that statement would be parsed and planned each time. The
-- script sets enable_seqscan off before, for that plan and for those made here. Does for one command what complete does for many, as plain
-- statements: a transactional handler pays it alone. Returns whether somebody waits for the reply.
-- Raises MS030 if p_lease_no is not the command's newest or the command is not IN_PROGRESS: whoever holds it decides, and the effects roll
-- back, and so does the DELETE. Raises as reply does.
-- Locks as complete does: the queue row (by the DELETE), then the command row. A second worker that holds a newer lease waits for neither.
-- A crash before COMMIT leaves the command leased and nothing of its handler; after it all is done.
create or replace function commandbus.complete_one(
    p_domain text, p_command_id uuid, p_lease_no bigint, p_result jsonb)
returns boolean
language plpgsql volatile
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_subject_no bigint;
    v_reply_to text;
    v_key text;
    v_batch_id uuid;
begin
    update commandbus.command as c
    set status = 'COMPLETED', msg_id = null, due_at = null, result = p_result, updated_at = v_now,
        position = case when current_setting('mainstay.floor', true) = 'held'
            then currval('eventsource.event_position') else c.position end
    where c.command_id = p_command_id and c.domain = p_domain and c.lease_no = p_lease_no and c.status = 'IN_PROGRESS'
    returning c.subject_no, c.reply_to, c.key, c.batch_id into v_subject_no, v_reply_to, v_key, v_batch_id;
    if not found then
        raise exception 'command % is no longer held by lease %', p_command_id, p_lease_no using errcode = 'MS030';
    end if;
    insert into commandbus.audit (subject_no, event_type, ts) values (v_subject_no, 'COMPLETED', v_now);
    if v_reply_to is not null then
        perform commandbus.reply(p_domain, array[p_command_id]);
    end if;
    if v_batch_id is not null then
        insert into commandbus.batch_delta (domain, batch_id, completed) values (p_domain, v_batch_id, 1);
    end if;
    if v_key is not null then
        perform commandbus.release_keys(p_domain, array[p_command_id]);
    end if;
    return exists (select from commandbus.waiter as w where w.command_id = p_command_id and w.domain = p_domain);
end;
$$;
