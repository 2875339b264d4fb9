-- State that positions may have been given out twice: after a restore from a backup, or a failover that lost the last commits.
--
-- Called by operators. Checkpoints of the epoch before are then verified by the events' ids before anybody goes on from them. Draws a new epoch, takes
-- the published horizon back to the last event that is there, and the sequence to it if it stands behind. Locks the one row. Nobody may append meanwhile.
create or replace function eventsource.renew_epoch()
returns uuid
language plpgsql volatile
as $$
declare
    v_epoch uuid := gen_random_uuid();
    v_last bigint;
begin
    lock table eventsource.event in share row exclusive mode;
    select coalesce(max(e.position), 0) into v_last from eventsource.event as e;
    if v_last > coalesce(pg_sequence_last_value('eventsource.event_position'), 0) then
        perform setval('eventsource.event_position', v_last);
    end if;
    update eventsource.feed_horizon as h set epoch = v_epoch, position = v_last where h.only_one;
    return v_epoch;
end;
$$;
