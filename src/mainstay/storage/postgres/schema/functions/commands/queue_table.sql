-- The table of a PGMQ queue, as regclass.
--
-- Called by every function here that touches a queue, before it takes any lock. Locks nothing.
-- Raises MS001 (detail: the queue) if there is no such queue.
create or replace function commandbus.queue_table(p_queue text)
returns regclass
language plpgsql stable
as $$
declare
    v_table regclass := to_regclass(format('pgmq.%I', 'q_' || lower(p_queue)));
begin
    if v_table is null then
        raise exception 'queue "%" does not exist', p_queue using errcode = 'MS001', detail = p_queue;
    end if;
    return v_table;
end;
$$;
