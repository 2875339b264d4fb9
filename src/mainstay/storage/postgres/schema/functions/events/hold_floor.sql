-- Before a transaction draws its first position: write down a number that all its positions will be above, its floor.
--
-- The promise of the feed: whoever has read up to a horizon has met every event at or below it, for ever. Positions are drawn from a sequence,
-- so they are committed in any order; a reader that simply goes on after the highest position it has seen skips what commits later below it.
--
-- A writer reads the sequence, *then* locks what it has read (shared; nobody ever takes it otherwise, so it never waits), *then* draws. A
-- reader reads the sequence, *then* the lowest floor that is held (eventsource.horizon), and *then*, with a later snapshot, the events up to the
-- lower of the two. Why that is enough: a position at or below what the reader found in the sequence was drawn before, so its floor was
-- locked before that. Either the floor is still held: then the horizon is below the position. Or it was let go, which PostgreSQL does after
-- the commit is visible (and after a synchronous standby has answered), so the later snapshot shows the event, or it will never be there.
-- A floor that is not locked yet belongs to positions above what the reader found.
--
-- Only transactions that have appended hold the horizon back. The lock is let go by COMMIT, by ROLLBACK, and by a rollback to a savepoint
-- before it, which takes the positions with it; the setting that says that a floor is held is undone in the same moments, so the next append registers again. Prepared
-- transactions keep it, over a crash too. The numbers of a sequence never go back, but see eventsource.horizon.
--
-- Called by append and prepare_import, under the locks of the streams and right before they draw. One lock for each transaction.
create or replace function eventsource.hold_floor()
returns void
language plpgsql volatile
as $$
begin
    if coalesce(current_setting('mainstay.floor', true), '') = '' then
        if pg_advisory_xact_lock_shared(
            28019::bigint << 48 | coalesce(pg_sequence_last_value('eventsource.event_position'), 0)) is null
            or set_config('mainstay.floor', 'held', true) is null
        then
            null;  -- expressions cost less than statements
        end if;
    end if;
end;
$$;
