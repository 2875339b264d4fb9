-- Wait until no other transaction lets commands through the gates of a domain, and keep others waiting until COMMIT.
--
-- Called by receive when it has a command with a gate in hand or may release one, and by whatever changes a gate. Locks the domain's
-- row. Whoever holds it waits only for rows of commands that it received or released itself, so it is held for a moment.
create or replace function commandbus.lock_gates(p_domain text)
returns void
language sql volatile
as $$
    select from commandbus.gate as g where g.domain = p_domain and g.command_type = '' for update
$$;
