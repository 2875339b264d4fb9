-- Make a subscription known, with its shards at a checkpoint, unless it is. Returns how many shards it has, and of which version its projection is.
--
-- Two that register one at the same time: the second waits for the first's COMMIT at the name, and then changes nothing.
create or replace function eventsource.register_subscription(
    p_subscription text, p_shards integer, p_version integer, p_position bigint, p_epoch uuid, p_event_id uuid, p_event_position bigint
)
returns table (shards integer, version integer)
language plpgsql volatile
as $$
begin
    insert into eventsource.subscription (subscription, shards, version) values (p_subscription, p_shards, p_version)
    on conflict do nothing;
    if found then
        insert into eventsource.shard (subscription, shard, position, epoch, event_id, event_position)
        select p_subscription, n, p_position, p_epoch, p_event_id, p_event_position
        from generate_series(0, p_shards - 1) as n;
    end if;
    return query select s.shards, s.version from eventsource.subscription as s where s.subscription = p_subscription;
end;
$$;
