-- Remove the slots of commands that do not run any more: ended, given back, due again, or their lease expired.
--
-- Called under the domain's lock by whatever is about to count slots. The caller's next statement counts what is left.
create or replace function commandbus.free_slots(p_gate commandbus.gate)
returns void
language sql volatile
as $$
    delete from commandbus.running_slot as s
    where s.domain = p_gate.domain and s.command_type = p_gate.command_type and not exists (
        select from commandbus.command as c
        where c.command_id = s.command_id and c.domain = s.domain and commandbus.holds_slot(c.status, c.lease_no, s.lease_no))
$$;
