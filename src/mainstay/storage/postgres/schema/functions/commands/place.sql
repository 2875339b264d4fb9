-- The message id that stands for a number drawn from a queue's sequence, and a priority: the order of ids is the order of receiving.
--
-- Called wherever a message id is drawn, and inlined there. Urgent messages get ids below all others (negative ones, mostly), so that the
-- primary key of the queue is its order and no other index is needed. Within 2^53, for readers whose numbers are floats.
create or replace function commandbus.place(p_number bigint, p_priority integer)
returns bigint
language sql immutable
as $$
    select p_number - p_priority * 1000000000000000
$$;
