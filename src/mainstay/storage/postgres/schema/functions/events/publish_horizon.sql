-- Publish how far the feed can be read, and wake those who wait for it. Of any number of callers one does: who holds the lease.
--
-- Called by HorizonPublisher, again and again. Returns how far the feed can be read; if somebody else publishes, what he has published, and for how many seconds
-- his lease lasts. Sends the only NOTIFY there is about events, and only if there is something new: a NOTIFY takes a lock of the whole cluster at
-- commit, and an append never takes it.
--
-- p_told: up to where the caller has notified by now. While events flow he notifies each time, but writes the row ten times a second at most: a row that is
-- written more often than it is vacuumed, because somebody holds an old snapshot, becomes slow to read, and everybody reads it.
--
-- With nothing to publish it writes nothing and locks nothing. Otherwise it locks the one row, skipping it while another holds it, and looks again: the position never
-- goes back, however long ago the horizon was found. A crash before COMMIT leaves what was published before. So may one shortly after, for the COMMIT does not wait for the
-- disk: what is published is found again, and everybody who was told of it was told what is so. On a replica nobody publishes.
create or replace function eventsource.publish_horizon(p_holder text, p_lease double precision, p_told bigint)
returns table ("position" bigint, seconds double precision)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_row eventsource.feed_horizon;
    v_now timestamptz := clock_timestamp();
    v_horizon bigint;
begin
    select h.* into v_row from eventsource.feed_horizon as h where h.only_one;
    if pg_is_in_recovery() then
        return query select v_row.position, p_lease;
        return;
    end if;
    if v_row.holder = p_holder or v_row.until is null or v_row.until <= v_now then
        v_horizon := eventsource.horizon();
        if v_row.holder = p_holder and v_row.until > v_now + make_interval(
            secs => case when v_horizon <= v_row.position then p_lease / 2 else p_lease - 0.1 end)
        then
            if v_horizon > greatest(v_row.position, p_told) then
                perform pg_notify('mainstay.events', v_horizon::text);
            end if;
            return query select greatest(v_row.position, v_horizon), null::double precision;
            return;
        end if;
        select h.* into v_row from eventsource.feed_horizon as h where h.only_one for update skip locked;
        if found and (v_row.holder = p_holder or v_row.until is null or v_row.until <= v_now) then
            perform set_config('synchronous_commit', 'off', true);
            update eventsource.feed_horizon as h
            set position = greatest(h.position, v_horizon), holder = p_holder, until = v_now + make_interval(secs => p_lease)
            where h.only_one;
            if v_horizon > greatest(v_row.position, p_told) then
                perform pg_notify('mainstay.events', v_horizon::text);
            end if;
            return query select greatest(v_row.position, v_horizon), null::double precision;
            return;
        end if;
    end if;
    return query
        select h.position, greatest(0.05, extract(epoch from h.until - v_now))::double precision
        from eventsource.feed_horizon as h;
end;
$$;
