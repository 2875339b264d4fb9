-- The ids of the commands that the reply to a command may be: the one it is given, and the one that a repair sends if that was lost.
--
-- Called by send_replies, find_process_faults and repair_step. Locks nothing.
create or replace function commandbus.reply_ids(p_command_id uuid)
returns uuid[]
language sql immutable
as $$
    select array[md5('Reply/' || p_command_id::text)::uuid, md5('Reply again/' || p_command_id::text)::uuid];
$$;
