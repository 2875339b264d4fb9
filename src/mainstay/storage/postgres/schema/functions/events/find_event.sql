-- The position of the event with an id; null if there is none. Two in different streams may have one: the first.
--
-- Called for `mainstay trace`, and by anything that can call SQL. As commandbus.conversation says, the planner may think little of the index.
-- Locks nothing.
create or replace function eventsource.find_event(p_event_id uuid)
returns bigint
language sql stable
set enable_seqscan = off
set jit = off
as $$
    select min(m.position)
    from (select e.position from eventsource.event as e where e.event_id = p_event_id offset 0) as m;
$$;
