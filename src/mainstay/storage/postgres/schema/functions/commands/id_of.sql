-- The command id in a message, or null if there is none that is a UUID.
--
-- Called for every message that is received, so that a malformed one cannot stop the rest.
create or replace function commandbus.id_of(p_message jsonb)
returns uuid
language sql immutable
as $$
    select case
        when p_message ->> 'command_id'
             ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
            then (p_message ->> 'command_id')::uuid
    end
$$;
