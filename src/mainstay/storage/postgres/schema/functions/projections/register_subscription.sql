-- Make a subscription known, with its shards at a checkpoint, unless it is. Returns how many shards it has.
--
-- Two that register one at the same time: the second waits for the first's COMMIT at the name, and then changes nothing.
create or replace function eventsource.register_subscription(
    p_subscription text, p_shards integer, p_position bigint, p_epoch uuid, p_event_id uuid, p_event_position bigint
)
returns integer
language plpgsql volatile
as $$
declare
    v_shards integer;
begin
    insert into eventsource.subscription (subscription, shards) values (p_subscription, p_shards)
    on conflict do nothing;
    if found then
        insert into eventsource.shard (subscription, shard, position, epoch, event_id, event_position)
        select p_subscription, n, p_position, p_epoch, p_event_id, p_event_position
        from generate_series(0, p_shards - 1) as n;
    end if;
    select s.shards into v_shards from eventsource.subscription as s where s.subscription = p_subscription;
    return v_shards;
end;
$$;
