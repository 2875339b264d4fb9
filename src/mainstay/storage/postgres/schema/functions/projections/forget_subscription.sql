-- Remove a subscription with its checkpoints and its dead letters.
--
-- Locks what hold_subscription does, and so waits for the batches in hand. Who held a shard finds its claim stale.
create or replace function eventsource.forget_subscription(p_subscription text)
returns void
language plpgsql volatile
as $$
begin
    perform eventsource.hold_subscription(p_subscription);
    delete from eventsource.subscription as s where s.subscription = p_subscription;
    if found then
        perform commandbus.note_deed('PROJECTION', p_subscription, 'FORGOTTEN');
    end if;
end;
$$;
