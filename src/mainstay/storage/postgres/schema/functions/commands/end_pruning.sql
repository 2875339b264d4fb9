-- Let another one prune: p_every seconds from now, or, with null, at once, because this run did not come to its end.
--
-- Called by Pruner, after a run. Does nothing if somebody else holds it by now. Locks: the one row of `pruning`.
create or replace function commandbus.end_pruning(p_holder text, p_every double precision)
returns void
language sql volatile
as $$
    update commandbus.pruning as p
    set until = clock_timestamp(), next_at = coalesce(clock_timestamp() + make_interval(secs => p_every), p.next_at)
    where p.holder = p_holder
$$;
