-- Note which types of events a subscription wants; null for all. Does nothing if it is not known.
--
-- Locks the row of the subscription until the COMMIT; a second process that starts waits for it, and its word is the last.
create or replace function eventsource.want_types(p_subscription text, p_types text[])
returns void
language sql volatile
as $$
    update eventsource.subscription as s set wanted = p_types
    where s.subscription = p_subscription and s.wanted is distinct from p_types;
$$;
