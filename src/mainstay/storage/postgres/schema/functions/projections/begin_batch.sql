-- Hold a shard for the rest of the transaction, and say where it stands; raises MS030 if it is not the caller's any more.
--
-- The first statement of every batch. Locks the row, and may wait for a moment: for a replay of dead letters, or for a person who
-- pauses. The lease's end is not looked at: as long as nobody has claimed the shard, it is the caller's, and nobody can now.
create or replace function eventsource.begin_batch(p_subscription text, p_shard integer, p_token bigint)
returns setof eventsource.shard
language plpgsql volatile
as $$
begin
    return query
    select s.* from eventsource.shard as s
    where s.subscription = p_subscription and s.shard = p_shard and s.token = p_token
        and s.owner is not null and s.status = 'ACTIVE'
    for update;
    if not found then
        raise exception 'shard % of subscription "%" is somebody else''s by now, or was paused, stopped or reset',
            p_shard, p_subscription
            using errcode = 'MS030';
    end if;
end;
$$;
