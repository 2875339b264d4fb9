-- Open a breaker by hand.
--
-- Called by bus.breakers.open. Returns false if it is open already, or if the type has no rule. Locks the domain's row.
create or replace function commandbus.open_breaker(
    p_domain text, p_command_type text, p_fingerprint text, p_operator text, p_reason text)
returns boolean
language plpgsql volatile
as $$
declare
    v_rule commandbus.breaker_rule;
begin
    perform commandbus.lock_breakers(p_domain);
    select r.* into v_rule from commandbus.breaker_rule as r
    where r.domain = p_domain and r.command_type = p_command_type and r.failures is not null;
    if not found or exists (
        select from commandbus.breaker as b
        where b.domain = p_domain and b.command_type = p_command_type and b.fingerprint = p_fingerprint and b.state = 'OPEN')
    then
        return false;
    end if;
    perform commandbus.trip_breaker(v_rule, p_fingerprint, null, p_operator, p_reason);
    return true;
end;
$$;
