-- The message that travels in the queue for a command: {domain, command_type, command_id, correlation_id, data, reply_to?}.
--
-- Called by send and make_ready, and inlined there (stable, because jsonb_build_object is). One place, because other programs read these messages too.
create or replace function commandbus.message(
    p_domain text, p_command_type text, p_command_id uuid, p_correlation_id uuid, p_data jsonb, p_reply_to text)
returns jsonb
language sql stable
as $$
    select case
        when p_reply_to is null then
            jsonb_build_object('domain', p_domain, 'command_type', p_command_type, 'command_id', p_command_id,
                               'correlation_id', p_correlation_id, 'data', p_data)
        else
            jsonb_build_object('domain', p_domain, 'command_type', p_command_type, 'command_id', p_command_id,
                               'correlation_id', p_correlation_id, 'data', p_data, 'reply_to', p_reply_to)
    end
$$;
