-- Publish how far the feed can be read, and wake those who wait for it. Of any number of callers one does: who holds the lease.
--
-- Called by HorizonPublisher, again and again. Returns what is published and, if somebody else publishes, for how many seconds his lease lasts.
-- Sends the only NOTIFY there is about events, and only if there is something new: a NOTIFY takes a lock of the whole cluster at commit, and an append never
-- takes it. Locks the one row, skipping it while another holds it. A crash before COMMIT leaves what was published before; the position never goes back.
create or replace function eventsource.publish_horizon(p_holder text, p_lease double precision)
returns table ("position" bigint, seconds double precision)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_row eventsource.feed_horizon;
    v_now timestamptz := clock_timestamp();
    v_horizon bigint;
begin
    select h.* into v_row from eventsource.feed_horizon as h where h.only_one for update skip locked;
    if not found or v_row.holder <> p_holder and v_row.until > v_now then
        return query
            select h.position, greatest(0.05, extract(epoch from h.until - v_now))::double precision
            from eventsource.feed_horizon as h;
        return;
    end if;
    v_horizon := eventsource.horizon();
    if v_horizon > v_row.position or v_row.holder is distinct from p_holder or v_row.until < v_now + make_interval(secs => p_lease / 2) then
        update eventsource.feed_horizon as h
        set position = v_horizon, holder = p_holder, until = v_now + make_interval(secs => p_lease)
        where h.only_one;
    end if;
    if v_horizon > v_row.position then
        perform pg_notify('mainstay.events', v_horizon::text);
    end if;
    return query select v_horizon, null::double precision;
end;
$$;
