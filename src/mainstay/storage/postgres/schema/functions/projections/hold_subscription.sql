-- Hold a subscription and all its shards for the rest of the transaction; says whether there is such a subscription.
--
-- Locks the subscription's row first, in a mode that lets dead letters be laid down in batches that are under way, so that of two who want to
-- change its shards the second waits here and then sees what the first has left. Then the shards in their order, and so waits for the batches in
-- hand. Who holds a shard keeps it, and waits with the next batch.
create or replace function eventsource.hold_subscription(p_subscription text)
returns boolean
language plpgsql volatile
as $$
begin
    perform from eventsource.subscription as s where s.subscription = p_subscription for no key update;
    if not found then
        return false;
    end if;
    perform from eventsource.shard as s where s.subscription = p_subscription order by s.shard for update;
    return true;
end;
$$;
