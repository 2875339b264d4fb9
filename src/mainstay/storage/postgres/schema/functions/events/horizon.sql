-- The highest position up to which the feed can be read: no event will ever appear at or below it that is not there.
--
-- The events must be read by a later statement, under READ COMMITTED: an older snapshot lacks what was committed in between, and loses it. Why it
-- holds is said in eventsource.hold_floor. Between the two questions here the order matters too.
--
-- It is the position of an event, not a number that was drawn and not used: numbers that only transactions without a commit have drawn may be drawn
-- again after a crash, and whoever had been told one would skip what comes there.
--
-- While nothing was drawn beyond what is published, that is it: nothing else is asked then.
--
-- On a replica it is what was published: the locks are on the primary. What was committed before the row is there before the row is.
--
-- Called by read_feed, publish_horizon and whoever asks. Locks nothing, waits for nothing. Reads pg_locks.
create or replace function eventsource.horizon()
returns bigint
language plpgsql volatile
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_published bigint := (select h.position from eventsource.feed_horizon as h where h.only_one);
    v_drawn bigint;
    v_floor bigint;
begin
    if pg_is_in_recovery() then
        return v_published;
    end if;
    v_drawn := coalesce(pg_sequence_last_value('eventsource.event_position'), 0);
    if v_drawn <= v_published then
        return v_published;
    end if;
    select min(k.classid::bigint << 32 | k.objid::bigint) & ((1::bigint << 48) - 1) into v_floor
    from pg_catalog.pg_locks as k
    where k.locktype = 'advisory' and k.objsubid = 1 and k.classid::bigint >> 16 = 28019
      and k.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database());
    return greatest(v_published, (
        select max(e.position) from eventsource.event as e where e.position <= least(v_drawn, v_floor)));
end;
$$;
