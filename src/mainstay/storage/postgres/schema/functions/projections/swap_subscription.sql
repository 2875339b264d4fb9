-- Let the shards of a rebuild be those of a subscription. Returns how many dead letters of the old shards the rebuild has made up for.
--
-- Called under the locks of both (hold_subscription), in the transaction that swaps the tables. The new shards are nobody's, with a token above all
-- that were ever given for either name: whoever had a shard of one finds its claim stale, in whichever process. A subscription that was paused stays so;
-- one that an error had stopped goes on. Dead letters of the rebuild stand instead of those of the old shards; what had waited there and was handled by the
-- rebuild is settled, what was settled before stays as it is. A crash before the COMMIT leaves both as they were.
create or replace function eventsource.swap_subscription(p_subscription text, p_rebuild text, p_actor text)
returns integer
language plpgsql volatile
as $$
declare
    v_token bigint;
    v_paused eventsource.shard;
    v_settled integer;
begin
    select max(s.token) + 1 into v_token from eventsource.shard as s where s.subscription in (p_subscription, p_rebuild);
    select s.* into v_paused from eventsource.shard as s
    where s.subscription = p_subscription and s.status = 'PAUSED' order by s.shard limit 1;

    delete from eventsource.dead_letter as d using eventsource.dead_letter as n
    where d.subscription = p_subscription and n.subscription = p_rebuild and n.position = d.position;
    update eventsource.dead_letter as d
    set status = 'HANDLED', actor = p_actor, reason = 'rebuilt, without side effects', settled_at = clock_timestamp()
    where d.subscription = p_subscription and d.status = 'WAITING';
    get diagnostics v_settled = row_count;
    update eventsource.dead_letter as d set subscription = p_subscription where d.subscription = p_rebuild;

    delete from eventsource.shard as s where s.subscription = p_subscription;
    insert into eventsource.shard (
        subscription, shard, status, position, epoch, event_id, event_position, token, moved_at, reason, actor)
    select
        p_subscription, s.shard, coalesce(v_paused.status, 'ACTIVE'), s.position, s.epoch, s.event_id, s.event_position, v_token,
        clock_timestamp(), v_paused.reason, coalesce(v_paused.actor, p_actor)
    from eventsource.shard as s where s.subscription = p_rebuild;
    update eventsource.subscription as s
    set shards = n.shards, version = n.version, generation = s.generation + 1
    from eventsource.subscription as n
    where s.subscription = p_subscription and n.subscription = p_rebuild;
    delete from eventsource.subscription as s where s.subscription = p_rebuild;
    perform commandbus.note_deed('PROJECTION', p_subscription, 'SWAPPED', '{}', p_actor);
    return v_settled;
end;
$$;
