-- Take away all limits of a command type; what they held up may start.
--
-- Called by bus.limits.remove. Returns whether there was one. Locks the domain's row.
create or replace function commandbus.remove_limit(p_domain text, p_command_type text)
returns boolean
language plpgsql volatile
as $$
begin
    perform commandbus.lock_gates(p_domain);
    if not exists (
        select from commandbus.gate as g where g.domain = p_domain and g.command_type = p_command_type
          and (g.max_running is not null or g.per is not null or g.rate is not null))
    then
        return false;
    end if;
    perform commandbus.set_limit(p_domain, p_command_type, null, null, null, null, null, null);
    delete from commandbus.limit_grant as g where g.domain = p_domain and g.command_type = p_command_type;
    perform commandbus.remove_gates(p_domain);
    return true;
end;
$$;
