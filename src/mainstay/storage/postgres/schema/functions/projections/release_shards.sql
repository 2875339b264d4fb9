-- Give shards back at once; what is not the caller's any more is left alone.
--
-- Locks the rows in the order of shards.
create or replace function eventsource.release_shards(p_subscription text, p_shards integer[], p_tokens bigint[])
returns void
language plpgsql volatile
as $$
begin
    with held as (
        select s.shard from eventsource.shard as s
        join unnest(p_shards, p_tokens) as c (shard, token) on c.shard = s.shard and c.token = s.token
        where s.subscription = p_subscription
        order by s.shard
        for update of s
    )
    update eventsource.shard as s set owner = null, leased_until = null
    from held
    where s.subscription = p_subscription and s.shard = held.shard;
end;
$$;
