-- Close a breaker by hand: what it holds is let go, and failures count as attempts again.
--
-- Called by bus.breakers.close. Returns false if there is none, or if somebody closed it already. Locks the domain's row.
create or replace function commandbus.close_breaker(
    p_domain text, p_command_type text, p_fingerprint text, p_operator text, p_reason text)
returns boolean
language plpgsql volatile
as $$
declare
    v_breaker commandbus.breaker;
begin
    perform commandbus.lock_breakers(p_domain);
    select b.* into v_breaker from commandbus.breaker as b
    where b.domain = p_domain and b.command_type = p_command_type and b.fingerprint = p_fingerprint and not b.is_forced;
    if not found then
        return false;
    end if;
    perform commandbus.begin_closing(v_breaker, true, p_operator, p_reason);
    return true;
end;
$$;
