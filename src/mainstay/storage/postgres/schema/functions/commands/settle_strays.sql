-- Deal with messages in a command queue that no pending command stands for, so that none is lost and none loops.
--
-- Called by receive, which holds the queue rows. A second message of a command goes to the queue's archive; if the command has ended, it is
-- not handled again, but the message's reply_to gets the reply that is stored. A
-- message that nobody sent through commandbus.send (no such command, or not a command at all) becomes a command in the
-- troubleshooting queue with the raw message as its payload: an operator decides.
create or replace function commandbus.settle_strays(p_domain text, p_msg_ids bigint[])
returns void
language plpgsql volatile
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_queue text := p_domain || '__commands';
    v_stray record;
    v_id uuid;
    v_subject_no bigint;
begin
    for v_stray in execute format(
        'select msg_id, message, headers from %s where msg_id = any ($1) order by msg_id', commandbus.queue_table(v_queue))
        using p_msg_ids
    loop
        v_id := commandbus.id_of(v_stray.message);
        perform pgmq.archive(v_queue, v_stray.msg_id);
        if v_id is not null and exists (
            select from commandbus.command as c where c.command_id = v_id and c.domain = p_domain)
        then
            perform commandbus.reply_again(p_domain, v_id, left(v_stray.message ->> 'reply_to', 60));
            continue;
        end if;
        insert into commandbus.command as c (
            command_id, domain, command_type, status, error_type, error_code, error_message, created_at, updated_at, data, headers)
        values (
            coalesce(v_id, gen_random_uuid()), p_domain,
            coalesce(nullif(left(v_stray.message ->> 'command_type', 200), ''), 'UNKNOWN'), 'IN_TROUBLESHOOTING_QUEUE',
            'PERMANENT', case when v_id is null then 'MALFORMED_MESSAGE' else 'UNKNOWN_COMMAND' end,
            'message ' || v_stray.msg_id || ' in queue ' || v_queue || ' was not sent as a command',
            v_now, v_now,
            case
                when v_id is not null and jsonb_typeof(v_stray.message -> 'data') = 'object' then v_stray.message -> 'data'
                else jsonb_build_object('message', v_stray.message)
            end,
            v_stray.headers)
        returning c.command_id, c.subject_no into v_id, v_subject_no;
        perform commandbus.troubleshoot(p_domain, array[v_id]);
        insert into commandbus.audit (subject_no, event_type, ts, details)
        values
            (v_subject_no, 'SENT', v_now, jsonb_build_object('adopted_from', v_queue, 'msg_id', v_stray.msg_id)),
            (v_subject_no, 'MOVED_TO_TSQ', v_now, jsonb_build_object('reason', 'STRAY'));
    end loop;
end;
$$;
