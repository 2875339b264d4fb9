-- Take the lock under which the breakers of a domain change, if nobody has it; whether it was taken.
--
-- Called by work_breakers. Locks the domain's row of breaker_rule, and waits for nobody: whoever has it does what is due, or fails and tells.
create or replace function commandbus.try_lock_breakers(p_domain text)
returns boolean
language plpgsql volatile
as $$
begin
    perform from commandbus.breaker_rule as r where r.domain = p_domain and r.command_type = '' for update skip locked;
    return found;
end;
$$;
