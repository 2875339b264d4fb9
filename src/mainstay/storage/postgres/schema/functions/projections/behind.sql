-- How far positions of the feed are behind its end: the events after each, counted if there are not too many positions, and when the first of them was recorded.
--
-- Called by the questions that show how far subscriptions are. Each position is looked at once, however often it is named, and each event counted once, however
-- many positions it is after: the counts between neighbors are summed up. Locks nothing. Reads the index of positions only, and an event for each position.
create or replace function eventsource.behind(p_positions bigint[], p_horizon bigint, p_most bigint)
returns table ("position" bigint, events bigint, exact boolean, recorded_at timestamptz)
language sql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set jit = off
as $$
    with asked as materialized (
        select distinct p.position, p_horizon - p.position <= p_most as exact from unnest(p_positions) as p(position)
    ), parts as (
        select a.position, least(lead(a.position, 1, p_horizon) over (order by a.position), p_horizon) as up_to
        from asked as a
        where a.exact
    ), counted as (
        select p.position, (sum(c.events) over (order by p.position desc))::bigint as events
        from parts as p
        cross join lateral (
            select count(*) as events from eventsource.event as e where e.position > p.position and e.position <= p.up_to
        ) as c
    ), found as (
        select c.position, c.events, true as exact from counted as c
        union all
        select a.position, p_horizon - a.position, false from asked as a where not a.exact
    )
    select f.position, f.events, f.exact, e.recorded_at
    from found as f
    left join lateral (
        select e.recorded_at from eventsource.event as e
        where e.position > f.position and e.position <= p_horizon order by e.position limit 1
    ) as e on true
$$;
