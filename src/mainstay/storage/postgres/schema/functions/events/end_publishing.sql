-- Give the lease of publishing back, so that another goes on at once. Locks the one row. Called by HorizonPublisher when it stops.
create or replace function eventsource.end_publishing(p_holder text)
returns void
language sql volatile
as $$
    update eventsource.feed_horizon as h set until = clock_timestamp() where h.only_one and h.holder = p_holder;
$$;
