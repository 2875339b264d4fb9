-- A page of a subscription's dead letters, by position: of a key and with a status, or of all of them.
--
-- Called by PostgresProjectionStore.dead_letters. Locks nothing. Walks the primary key from the position on, and reads nothing but what it returns and what
-- the key and the status leave out on the way: whatever the statistics say, all letters that wait are never gathered and sorted.
create or replace function eventsource.list_dead_letters(
    p_subscription text, p_key text, p_status text, p_after bigint, p_limit integer)
returns setof eventsource.dead_letter
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
    return query
        select d.* from eventsource.dead_letter as d
        where d.subscription = p_subscription and d.position > p_after
          and (p_key is null or d.key = p_key) and (p_status is null or d.status = p_status)
        order by d.position
        limit p_limit;
end;
$$;
