-- Close a stream to appends, or open it again.
--
-- Called by PostgresEventLog.archive. Raises MS106 if there is no such stream, MS103 if it is tombstoned. Locks the stream's row: an append that is under way comes before it. A
-- crash before COMMIT leaves it as it was.
create or replace function eventsource.archive(p_category text, p_tenant text, p_id text, p_archived boolean)
returns eventsource.stream
language plpgsql volatile
as $$
declare
    v_stream eventsource.stream;
begin
    select s.* into v_stream from eventsource.stream as s
    where s.category = p_category and s.tenant_id = p_tenant and s.stream_id = p_id and s.version > 0
    for update;
    if not found or v_stream.tombstoned_at is not null then
        raise exception 'stream % % cannot be archived', p_category, p_id using
            errcode = case when v_stream.tombstoned_at is null then 'MS106' else 'MS103' end,
            detail = jsonb_build_object('stream', p_category || '/' || p_id || coalesce('@' || nullif(p_tenant, ''), ''))::text;
    end if;
    if (v_stream.archived_at is not null) <> p_archived then
        update eventsource.stream as s set archived_at = case when p_archived then now() end
        where s.stream_no = v_stream.stream_no
        returning s.* into v_stream;
    end if;
    return v_stream;
end;
$$;
