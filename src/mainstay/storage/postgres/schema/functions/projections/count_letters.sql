-- How many dead letters of each of these subscriptions wait; those that have none are left out.
--
-- Called by the question that shows how subscriptions are. Locks nothing. Reads the index of letters that wait, and of that what is asked for: where statistics
-- know one subscription with letters only, the planner would rather read the whole table, for each of the others, too.
create or replace function eventsource.count_letters(p_subscriptions text[])
returns table (subscription text, letters bigint)
language sql stable
set enable_seqscan = off
set jit = off
as $$
    select d.subscription, count(*) from eventsource.dead_letter as d
    where d.status = 'WAITING' and d.subscription = any (p_subscriptions)
    group by d.subscription
$$;
