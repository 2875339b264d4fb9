-- Write messages into a queue under ids drawn before.
--
-- Called by send, make_ready, reply and reply_again, which know that the queue exists: they drew the ids from it. Inserts only; nobody waits for it.
create or replace function commandbus.put_messages(p_queue text, p_msg_ids bigint[], p_messages jsonb[], p_headers jsonb[])
returns void
language plpgsql volatile
as $$
declare
    v_table text := format('pgmq.%I', 'q_' || lower(p_queue));
begin
    if cardinality(p_msg_ids) = 1 then  -- planned in half the time, and the one path that a single send waits for
        execute format(
            'insert into %s (msg_id, vt, message, headers) overriding system value values ($1, clock_timestamp(), $2, $3)',
            v_table)
        using p_msg_ids[1], p_messages[1], p_headers[1];
        return;
    end if;
    execute format(
        'insert into %s (msg_id, vt, message, headers) overriding system value'
        ' select m.msg_id, clock_timestamp(), m.message, m.headers'
        ' from unnest($1, $2, $3) as m(msg_id, message, headers)',
        v_table)
    using p_msg_ids, p_messages, p_headers;
end;
$$;
