-- Wait until no other transaction changes the breakers of a domain, and keep others waiting until COMMIT.
--
-- Called by whatever opens, closes or changes breakers, and when a failed command of a type that has them is written. Locks the domain's
-- row of breaker_rule. Taken after queue, deferred and command rows of commands that nobody else can get at, and before the domain's gate.
-- work_breakers does not wait for it.
create or replace function commandbus.lock_breakers(p_domain text)
returns void
language sql volatile
as $$
    select from commandbus.breaker_rule as r where r.domain = p_domain and r.command_type = '' for update
$$;
