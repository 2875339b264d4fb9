-- Forget what is known of where messages may be in a domain's queue: receivers look everywhere, and learn it anew.
--
-- Called by repair when it puts a message back under its old id or found one where nobody looks, and by receive when the queue is
-- not what it was, or clean. Locks the queue's ranges until COMMIT, so that nobody narrows them before the message is visible; waits for one who does.
create or replace function commandbus.forget_live_range(p_domain text)
returns void
language plpgsql volatile
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('mainstay.live_range.' || p_domain, 0));
    delete from commandbus.live_range as l where l.domain = p_domain;
end;
$$;
