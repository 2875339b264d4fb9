-- The next message id of a PGMQ queue, drawn before the message is written so that its command row can name it.
--
-- Called by make_ready, reply and reply_again (priority 0). Locks nothing. Raises MS001 if there is no such queue.
create or replace function commandbus.next_msg_id(p_queue text, p_priority integer)
returns bigint
language plpgsql volatile
as $$
declare
    v_sequence regclass := to_regclass(format('pgmq.%I', 'q_' || lower(p_queue) || '_msg_id_seq'));
begin
    if v_sequence is null then
        raise exception 'queue "%" does not exist', p_queue using errcode = 'MS001', detail = p_queue;
    end if;
    return commandbus.place(nextval(v_sequence), p_priority);
end;
$$;
