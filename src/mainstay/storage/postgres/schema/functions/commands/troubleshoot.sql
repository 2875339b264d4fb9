-- List commands that just became IN_TROUBLESHOOTING_QUEUE, under the group of failures that they belong to.
--
-- Called by put_aside, expire_leases, settle_strays and undo, in their transaction, after they wrote the command rows, which they
-- hold; reads those by id. Inserts only; nobody waits for it.
create or replace function commandbus.troubleshoot(p_domain text, p_command_ids uuid[])
returns void
language sql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
    insert into commandbus.troubleshooting
    select f.*
    from unnest(p_command_ids) as t(id)
    join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain
    cross join lateral commandbus.as_trouble(c) as f
$$;
