-- Answer commands whose sender takes replies as commands: reply_to is the queue of a domain.
--
-- Called by reply. Each answer is a command of type Reply, whose data is what stands in any other reply queue and whose id is derived
-- from the command it answers, so that it is there once. Raises MS001 (detail: the queue) if the domain's queue was dropped since the send.
-- Locks: as send. The rows of the commands answered are the caller's already.
create or replace function commandbus.reply_as_commands(p_queue text, p_messages jsonb[])
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
            'headers', jsonb_build_object('causation_id', m.message -> 'command_id')) order by m.place)
        from unnest(p_messages) with ordinality as m(message, place)));
end;
$$;
