-- What must never be of subscriptions and dead letters: one row for each violation found.
--
-- Called by fsck with find_faults, in the same snapshot. Locks nothing. What stands on events is looked at where the checkpoint is of this database's events, and of
-- their present epoch: a subscription may read those of another database, and one of an epoch before is verified before it goes on.
create or replace function eventsource.find_projection_faults()
returns table (invariant text, details jsonb)
language plpgsql stable
as $$
#variable_conflict use_column
begin
    return query
        select 'a subscription has the shards that it says it has',
               jsonb_build_object('subscription', n.subscription, 'shards', n.shards, 'found', s.found)
        from eventsource.subscription as n
        left join lateral (
            select coalesce(array_agg(s.shard order by s.shard), '{}') as found
            from eventsource.shard as s where s.subscription = n.subscription
        ) as s on true
        where s.found <> array(select generate_series(0, n.shards - 1));

    return query
        select 'a checkpoint stands on its event, and not beyond the last',
               jsonb_build_object('subscription', s.subscription, 'shard', s.shard, 'position', s.position,
                                  'event_id', s.event_id, 'event_position', s.event_position, 'there', e.event_id)
        from eventsource.shard as s
        join eventsource.feed_horizon as h on h.epoch = s.epoch
        left join eventsource.event as e on e.position = s.event_position
        where s.event_id is not null and (e.event_id is distinct from s.event_id or s.event_position > s.position)
           or s.position > coalesce((select max(l.position) from eventsource.event as l), 0);

    return query
        select 'a shard that rests is nobody''s, and one that is somebody''s has a lease',
               jsonb_build_object('subscription', s.subscription, 'shard', s.shard, 'status', s.status, 'owner', s.owner)
        from eventsource.shard as s
        where (s.owner is null) <> (s.leased_until is null) or (s.status <> 'ACTIVE' and s.owner is not null);

    return query
        select 'a dead letter that waits lies behind the checkpoint of its shard',
               jsonb_build_object('subscription', d.subscription, 'shard', d.shard, 'position', d.position, 'checkpoint', s.position)
        from eventsource.dead_letter as d
        left join eventsource.shard as s on s.subscription = d.subscription and s.shard = d.shard
        where d.status = 'WAITING' and (s.position is null or d.position > s.position);

    return query
        select 'a dead letter that waits has its event',
               jsonb_build_object('subscription', d.subscription, 'position', d.position, 'event_id', d.event_id, 'there', e.event_id)
        from eventsource.dead_letter as d
        join eventsource.shard as s on s.subscription = d.subscription and s.shard = d.shard
        join eventsource.feed_horizon as h on h.epoch = s.epoch
        left join eventsource.event as e on e.position = d.position
        where d.status = 'WAITING' and e.event_id is distinct from d.event_id;
end;
$$;
