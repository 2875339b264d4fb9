-- Whether the probe of a breaker may still tell something: it is ready, parked before a gate, about to be its key's turn, or in progress.
--
-- Called by breaker_due. Whatever ends a probe changes its command, so a breaker is never left waiting for one: an outcome changes the
-- status, a retry defers it, a failure that a breaker holds parks it; a lease that ends makes it ready again. One whose key went on without it
-- while it was held (an operator said so) waits for the turn of that key, which may take for ever, and is no probe. Locks nothing.
create or replace function commandbus.is_probing(p_domain text, p_command_id uuid)
returns boolean
language sql stable
as $$
    select exists (
        select from commandbus.command as c
        where c.command_id = p_command_id and c.domain = p_domain
          and (c.status = 'IN_PROGRESS' or c.status = 'PENDING' and c.due_at is null and not exists (
              select from commandbus.parked as p
              where p.command_id = c.command_id and p.domain = c.domain and p.held_by is not null)
              and (c.msg_id is not null or c.key is null or not exists (
                  select from commandbus.key_head as h
                  where h.key = c.key and h.domain = c.domain and h.command_id <> c.command_id))))
$$;
