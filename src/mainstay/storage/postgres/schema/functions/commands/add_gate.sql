-- Make sure that a gate stands before a command type, or, with the type '', before a domain, and hold the domain's lock.
--
-- Called by set_limit and pause.
create or replace function commandbus.add_gate(p_domain text, p_command_type text)
returns void
language plpgsql volatile
as $$
begin
    insert into commandbus.gate as g (domain, command_type) values (p_domain, '')
    on conflict on constraint gate_pkey do update set command_type = g.command_type;
    insert into commandbus.gate (domain, command_type) values (p_domain, p_command_type) on conflict do nothing;
end;
$$;
