-- Take shards that are active and nobody's, or whose owner's lease has ended, up to p_most with those the owner has already; none
-- if the tables were built by a projection of another version.
--
-- Locks the rows it takes, in no order that matters: it passes by what is locked, so it waits for nobody. A shard in a batch
-- is locked by it until the batch's COMMIT, and so is not taken even if its lease has ended. A crash before the COMMIT leaves
-- the shards as they were; after it, they are free again when p_seconds are over. The higher token shuts out whoever had one before.
create or replace function eventsource.claim_shards(
    p_subscription text, p_owner text, p_seconds double precision, p_most integer, p_version integer
)
returns table (
    shard integer, shards integer, token bigint, "position" bigint, epoch uuid, event_id uuid, event_position bigint,
    dead_letters bigint
)
language plpgsql volatile
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_held integer;
begin
    select count(*) into v_held from eventsource.shard as s
    where s.subscription = p_subscription and s.owner = p_owner and s.leased_until > v_now;
    return query
        with free as (
            select s.shard as number from eventsource.shard as s
            where s.subscription = p_subscription and s.status = 'ACTIVE'
                and exists (select from eventsource.subscription as n where n.subscription = p_subscription and n.version = p_version)
                and (s.owner is null or s.leased_until <= v_now)
            order by s.shard
            limit greatest(p_most - v_held, 0)
            for update skip locked
        ), taken as (
            update eventsource.shard as s
            set owner = p_owner, leased_until = v_now + make_interval(secs => p_seconds), token = s.token + 1
            from free
            where s.subscription = p_subscription and s.shard = free.number
            returning s.*
        )
        select t.shard, n.shards, t.token, t.position, t.epoch, t.event_id, t.event_position,
            (select count(*) from eventsource.dead_letter as d
             where d.subscription = t.subscription and d.shard = t.shard and d.status = 'WAITING')
        from taken as t
        join eventsource.subscription as n using (subscription)
        order by t.shard;
end;
$$;
