-- Prolong leases; returns the shards that are still the caller's, and active.
--
-- Passes by rows that are locked, and so waits for nobody: a shard in a batch of the caller's own cannot be claimed by others, and
-- its lease is prolonged the next time.
create or replace function eventsource.renew_shards(
    p_subscription text, p_shards integer[], p_tokens bigint[], p_seconds double precision
)
returns setof integer
language plpgsql volatile
as $$
begin
    with held as (
        select s.shard from eventsource.shard as s
        join unnest(p_shards, p_tokens) as c (shard, token) on c.shard = s.shard and c.token = s.token
        where s.subscription = p_subscription and s.owner is not null and s.status = 'ACTIVE'
        for update of s skip locked
    )
    update eventsource.shard as s
    set leased_until = clock_timestamp() + make_interval(secs => p_seconds)
    from held
    where s.subscription = p_subscription and s.shard = held.shard;
    return query
        select s.shard from eventsource.shard as s
        join unnest(p_shards, p_tokens) as c (shard, token) on c.shard = s.shard and c.token = s.token
        where s.subscription = p_subscription and s.owner is not null and s.status = 'ACTIVE';
end;
$$;
