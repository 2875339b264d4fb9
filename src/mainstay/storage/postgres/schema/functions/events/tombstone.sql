-- Empty a stream for good: payloads, metadata and tags are gone; ids, types, versions and positions stay, so the feed has no hole.
--
-- Called by PostgresEventLog.tombstone. A second call changes nothing. Raises MS106 if there is no such stream. Locks the stream's row, then its events. A crash before COMMIT leaves
-- all as it was. An append that comes meanwhile waits, and is refused.
create or replace function eventsource.tombstone(p_category text, p_tenant text, p_id text, p_reason text, p_actor text)
returns eventsource.stream
language plpgsql volatile
set mainstay.may_empty = 'on'
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_stream eventsource.stream;
begin
    select s.* into v_stream from eventsource.stream as s
    where s.category = p_category and s.tenant_id = p_tenant and s.stream_id = p_id and s.version > 0
    for update;
    if not found then
        raise exception 'there is no stream % %', p_category, p_id using
            errcode = 'MS106', detail = jsonb_build_object(
                'stream', p_category || '/' || p_id || coalesce('@' || nullif(p_tenant, ''), ''))::text;
    end if;
    if v_stream.tombstoned_at is null then
        delete from eventsource.event_tag as t
        using eventsource.event as e, unnest(e.tags) as g(tag)
        where e.stream_no = v_stream.stream_no and t.tag = g.tag and t.position = e.position;
        update eventsource.event as e set payload = null, metadata = null, tags = null where e.stream_no = v_stream.stream_no;
        update eventsource.stream as s
        set tombstoned_at = now(), tombstone = jsonb_build_object('actor', p_actor, 'reason', p_reason)
        where s.stream_no = v_stream.stream_no
        returning s.* into v_stream;
    end if;
    return v_stream;
end;
$$;
