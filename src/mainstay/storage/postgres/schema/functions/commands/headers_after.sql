-- The headers of a command that follows from another: that is its cause, and it is of the same tenant and the same actor.
--
-- Called by reply, reply_again and repair_step. Locks nothing.
create or replace function commandbus.headers_after(p_command commandbus.command)
returns jsonb
language sql immutable
as $$
    select jsonb_strip_nulls(jsonb_build_object(
        'causation_id', p_command.command_id,
        'tenant_id', p_command.headers -> 'tenant_id',
        'actor_id', p_command.headers -> 'actor_id'));
$$;
