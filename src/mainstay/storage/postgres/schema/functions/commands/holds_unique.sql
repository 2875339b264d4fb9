-- Whether the command that took a unique key last still holds it: it has not ended, or it is COMPLETED and its time is not over.
--
-- Called by claim_unique for a command of which p_successor_of says whose end belongs to its transaction and by prune. A command
-- that FAILED or was CANCELED did not do what was to be done once, so it holds nothing. Reads one command, locks nothing.
create or replace function commandbus.holds_unique(
    p_domain text, p_command_id uuid, p_held_until timestamptz, p_successor_of uuid, p_now timestamptz)
returns boolean
language sql stable
as $$
    select exists (
        select from commandbus.command as c
        where c.command_id = p_command_id and c.domain = p_domain
          and case c.status
              when 'COMPLETED' then coalesce(p_held_until > p_now, false)
              when 'FAILED' then false
              when 'CANCELED' then false
              else c.command_id is distinct from p_successor_of end)
$$;
