-- Pause the shards of a subscription that are active. Returns how many were; null if there is no such subscription.
--
-- Locks the rows in the order of shards, and so waits for the batches in hand, which end as they would have.
create or replace function eventsource.pause_subscription(p_subscription text, p_actor text, p_reason text)
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
    set status = 'PAUSED', actor = p_actor, reason = p_reason, owner = null, leased_until = null
    where s.subscription = p_subscription and s.status = 'ACTIVE';
    get diagnostics v_count = row_count;
    if v_count > 0 then
        perform commandbus.note_deed('PROJECTION', p_subscription, 'PAUSED', '{}', p_actor, p_reason);
    end if;
    return v_count;
end;
$$;
