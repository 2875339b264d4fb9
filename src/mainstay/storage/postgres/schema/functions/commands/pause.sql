-- Let no command of a domain, or of one of its types, start any more. What runs goes on.
--
-- Called by bus.pause. Returns false if it was paused already; who paused it first stays on record. Locks the domain's row.
create or replace function commandbus.pause(p_domain text, p_command_type text, p_operator text, p_reason text)
returns boolean
language plpgsql volatile
as $$
begin
    perform commandbus.add_gate(p_domain, coalesce(p_command_type, ''));
    update commandbus.gate as g
    set paused_at = clock_timestamp(), paused_by = p_operator, pause_reason = p_reason
    where g.domain = p_domain and g.command_type = coalesce(p_command_type, '') and g.paused_at is null;
    return found;
end;
$$;
