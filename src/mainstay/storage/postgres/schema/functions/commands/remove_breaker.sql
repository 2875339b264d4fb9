-- Take the breakers of a command type away; what they hold is let go as their rule said.
--
-- Called by bus.breakers.remove. Returns whether it had any. The rule's row stays until work_breakers has let everything go. Locks the
-- domain's row.
create or replace function commandbus.remove_breaker(p_domain text, p_command_type text, p_operator text)
returns boolean
language plpgsql volatile
as $$
begin
    perform commandbus.lock_breakers(p_domain);
    update commandbus.breaker_rule as r set failures = null
    where r.domain = p_domain and r.command_type = p_command_type and r.failures is not null;
    if not found then
        return false;
    end if;
    perform commandbus.note_breaker(p_domain, p_command_type, null, 'REMOVED', p_operator);
    perform commandbus.begin_closing(b, true, p_operator, null)
    from commandbus.breaker as b where b.domain = p_domain and b.command_type = p_command_type;
    delete from commandbus.breaker_failure as f where f.domain = p_domain and f.command_type = p_command_type;
    perform commandbus.remove_rules(p_domain);
    return true;
end;
$$;
