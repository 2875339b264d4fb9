-- Remove a subscription with its checkpoints and its dead letters.
--
-- Locks the shards in their order, and so waits for the batches in hand; then the subscription. Who held a shard finds its claim stale.
create or replace function eventsource.forget_subscription(p_subscription text)
returns void
language plpgsql volatile
as $$
begin
    perform from eventsource.shard as s where s.subscription = p_subscription order by s.shard for update;
    delete from eventsource.subscription as s where s.subscription = p_subscription;
end;
$$;
