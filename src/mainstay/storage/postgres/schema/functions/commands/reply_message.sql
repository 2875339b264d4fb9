-- What a reply says of a command that has ended.
--
-- Called by reply, reply_again and repair_step. Locks nothing.
create or replace function commandbus.reply_message(p_command commandbus.command)
returns jsonb
language sql stable
as $$
    select jsonb_build_object(
        'command_id', p_command.command_id,
        'correlation_id', p_command.correlation_id,
        'outcome', case p_command.status when 'COMPLETED' then 'SUCCESS' else p_command.status end,
        'data', p_command.result,
        'error_code', case when p_command.status <> 'COMPLETED' then p_command.error_code end,
        'error_message', case when p_command.status <> 'COMPLETED' then p_command.error_message end)
        || case when p_command.position is null then '{}' else jsonb_build_object('position', p_command.position) end;
$$;
