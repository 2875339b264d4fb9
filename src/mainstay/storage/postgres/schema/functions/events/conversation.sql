-- The positions of the events of conversations, in order, at most p_limit of them. An event that names none is one of its own, called by its id.
--
-- Called for `mainstay trace`, and by anything that can call SQL. As commandbus.conversation says, the planner may think little of the index.
-- Locks nothing.
create or replace function eventsource.conversation(p_correlation_ids uuid[], p_limit integer)
returns setof bigint
language sql stable
set enable_seqscan = off
set jit = off
as $$
    select m.position
    from (
        select e.position from eventsource.event as e where e.correlation_id = any (p_correlation_ids)
        union all
        select e.position from eventsource.event as e where e.event_id = any (p_correlation_ids) and e.correlation_id is null
        offset 0
    ) as m
    order by m.position
    limit p_limit;
$$;
