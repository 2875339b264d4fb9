-- Answer somebody who sent a command again that has ended: the reply that is stored goes to the queue that he names.
--
-- Called by CommandBus.send for a resend, and by settle_strays for a message of such a command. Whether it did; not if the command is
-- not known or has not ended, or if there is no such queue. Of the queue of a domain the answer is a command, which is there once.
-- Locks: as send, if the answer is a command; else nothing. A crash before COMMIT leaves no answer; a second caller sends a second one.
create or replace function commandbus.reply_again(p_domain text, p_command_id uuid, p_reply_to text)
returns boolean
language plpgsql volatile
as $$
declare
    v_message jsonb;
    v_headers jsonb;
begin
    if p_reply_to is null or to_regclass(format('pgmq.%I', 'q_' || lower(p_reply_to))) is null then
        return false;
    end if;
    select commandbus.reply_message(c), commandbus.headers_after(c) into v_message, v_headers from commandbus.command as c
    where c.command_id = p_command_id and c.domain = p_domain and c.status in ('COMPLETED', 'FAILED', 'CANCELED');
    if v_message is null then
        return false;
    elsif lower(p_reply_to) like '%\_\_commands' then
        perform commandbus.send_replies(lower(p_reply_to), array[v_message], array[v_headers]);
    else
        perform commandbus.put_messages(
            p_reply_to, array[commandbus.next_msg_id(p_reply_to, 0)], array[v_message], array[null::jsonb]);
    end if;
    return true;
end;
$$;
