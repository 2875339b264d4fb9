-- Make paused and stopped shards active again. Returns how many were not; null if there is no such subscription.
--
-- Locks the rows in the order of shards.
create or replace function eventsource.resume_subscription(p_subscription text, p_actor text)
returns integer
language plpgsql volatile
as $$
declare
    v_count integer;
begin
    perform from eventsource.shard as s where s.subscription = p_subscription order by s.shard for update;
    if not found then
        return null;
    end if;
    update eventsource.shard as s
    set status = 'ACTIVE', actor = p_actor, reason = null
    where s.subscription = p_subscription and s.status <> 'ACTIVE';
    get diagnostics v_count = row_count;
    if v_count > 0 then
        perform commandbus.note_deed('PROJECTION', p_subscription, 'RESUMED', '{}', p_actor);
    end if;
    return v_count;
end;
$$;
