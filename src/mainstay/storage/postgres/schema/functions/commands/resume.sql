-- Let commands of a domain, or of one of its types, start again.
--
-- Called by bus.resume. Returns false if it was not paused. What was parked is released by the receives that follow. Locks the domain's row.
create or replace function commandbus.resume(p_domain text, p_command_type text)
returns boolean
language plpgsql volatile
as $$
declare
    v_was_paused boolean;
begin
    perform commandbus.lock_gates(p_domain);
    update commandbus.gate as g
    set paused_at = null, paused_by = null, pause_reason = null
    where g.domain = p_domain and g.command_type = coalesce(p_command_type, '') and g.paused_at is not null;
    v_was_paused := found;
    perform commandbus.remove_gates(p_domain);
    return v_was_paused;
end;
$$;
