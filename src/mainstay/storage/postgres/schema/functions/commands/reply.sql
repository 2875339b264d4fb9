-- Put replies into their queues and note their message ids, so that fsck can tell that none is missing.
--
-- Called by complete, cancel and act, in their transaction, for commands that became terminal and whose sender asked for a reply.
-- A reply to the queue of a domain arrives as a command there, see send_replies; the message id noted is 0 then.
-- The content comes from the command row: {command_id, correlation_id, outcome, data, error_code, error_message}, and position if events were
-- appended.
-- Raises MS001 (detail: the queue) if a reply queue was dropped since the send; the caller's transaction is then rolled back.
create or replace function commandbus.reply(p_domain text, p_command_ids uuid[])
returns void
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_queue text;
    v_msg_ids bigint[];
    v_messages jsonb[];
    v_headers jsonb[];
begin
    for v_queue in
        select distinct c.reply_to from unnest(p_command_ids) as t(id)
        join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain
        where c.reply_to is not null
        order by c.reply_to
    loop
        with answered as (
            update commandbus.command as c
            set reply_msg_id = case when v_queue like '%\_\_commands' then 0 else commandbus.next_msg_id(v_queue, 0) end
            from (select t.id from unnest(p_command_ids) as t(id) order by t.id) as given
            where c.command_id = any (array[given.id]) and c.domain || '' = p_domain and c.reply_to = v_queue
            returning c.reply_msg_id, commandbus.reply_message(c) as message, commandbus.headers_after(c) as headers
        )
        select array_agg(a.reply_msg_id), array_agg(a.message), array_agg(a.headers) into v_msg_ids, v_messages, v_headers
        from answered as a;
        if v_queue like '%\_\_commands' then
            perform commandbus.send_replies(v_queue, v_messages, v_headers);
        else
            perform commandbus.put_messages(
                v_queue, v_msg_ids, v_messages, array_fill(null::jsonb, array[cardinality(v_msg_ids)]));
        end if;
    end loop;
end;
$$;
