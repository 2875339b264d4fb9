-- Lay events apart. One that lies there already and waits stays as it is; one that was settled waits again.
--
-- Called in a batch, by whoever holds the shard's row.
create or replace function eventsource.lay_down(p_subscription text, p_shard integer, p_letters jsonb)
returns void
language sql volatile
as $$
    insert into eventsource.dead_letter as d
        (subscription, shard, position, event_id, event_type, key, error, error_type, attempts)
    select p_subscription, p_shard, l.*
    from jsonb_to_recordset(p_letters) as l (
        position bigint, event_id uuid, event_type text, key text, error text, error_type text, attempts integer)
    on conflict (subscription, position) do update
    set shard = excluded.shard, event_id = excluded.event_id, event_type = excluded.event_type, key = excluded.key,
        error = excluded.error, error_type = excluded.error_type, attempts = excluded.attempts,
        created_at = clock_timestamp(), status = 'WAITING', actor = null, reason = null, settled_at = null
    where d.status <> 'WAITING'
$$;
