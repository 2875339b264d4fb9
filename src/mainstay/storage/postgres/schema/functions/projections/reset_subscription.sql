-- Move all shards of a subscription to a checkpoint, taking them from whoever holds them; dead letters behind it that wait are
-- discarded, because their events come again. Returns how many shards; null if there is no such subscription.
--
-- Locks the rows in the order of shards, and so waits for the batches in hand; then dead letters, which nobody changes without the lock on
-- their shard.
create or replace function eventsource.reset_subscription(
    p_subscription text, p_actor text, p_position bigint, p_epoch uuid, p_event_id uuid, p_event_position bigint
)
returns integer
language plpgsql volatile
as $$
declare
    v_count integer;
begin
    perform from eventsource.shard as s where s.subscription = p_subscription order by s.shard for update;
    if not found then
        return null;
    end if;
    update eventsource.shard as s
    set position = p_position, epoch = p_epoch, event_id = p_event_id, event_position = p_event_position,
        owner = null, leased_until = null, token = s.token + 1, actor = p_actor, moved_at = clock_timestamp()
    where s.subscription = p_subscription;
    get diagnostics v_count = row_count;
    update eventsource.dead_letter as d
    set status = 'DISCARDED', actor = p_actor, reason = 'reset', settled_at = clock_timestamp()
    where d.subscription = p_subscription and d.status = 'WAITING' and d.position > p_position;
    perform commandbus.note_deed(
        'PROJECTION', p_subscription, 'RESET', jsonb_build_object('position', p_position), p_actor);
    return v_count;
end;
$$;
