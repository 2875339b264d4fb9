-- Answer commands whose sender takes replies as commands: reply_to is the queue of a domain.
--
-- Called by reply and reply_again. Each answer is a command of type Reply, whose data is what stands in any other reply queue and whose id is derived
-- from the command it answers, so that it is there once; p_headers says, for each message, what led to it and in whose name it is handled,
-- see headers_after. Raises MS001 (detail: the queue) if the domain's queue was dropped since the send.
-- Locks: as send. The rows of the commands answered are the caller's already.
create or replace function commandbus.send_replies(p_queue text, p_messages jsonb[], p_headers jsonb[])
returns void
language plpgsql volatile
as $$
declare
    v_domain text := left(p_queue, -length('__commands'));
begin
    perform commandbus.queue_table(p_queue);
    perform commandbus.send((
        select jsonb_agg(jsonb_build_object(
            'domain', v_domain,
            'command_type', 'Reply',
            'command_id', (commandbus.reply_ids((m.message ->> 'command_id')::uuid))[1],
            'data', m.message,
            'correlation_id', m.message -> 'correlation_id',
            'max_attempts', 10,
            'headers', m.headers) order by m.place)
        from unnest(p_messages, p_headers) with ordinality as m(message, headers, place)));
end;
$$;
