-- Stop a shard because of an error, and give it back; raises MS030 if it is not the caller's any more. Locks the row.
create or replace function eventsource.stop_shard(p_subscription text, p_shard integer, p_token bigint, p_reason text)
returns void
language plpgsql volatile
as $$
begin
    perform eventsource.begin_batch(p_subscription, p_shard, p_token);
    update eventsource.shard as s
    set status = 'STOPPED', reason = p_reason, actor = null, owner = null, leased_until = null
    where s.subscription = p_subscription and s.shard = p_shard;
end;
$$;
