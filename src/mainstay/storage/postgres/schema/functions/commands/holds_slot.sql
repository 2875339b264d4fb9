-- Whether a slot counts: its command runs under the slot's lease, or is about to, in the receive that gave it the slot.
--
-- Called by whatever counts or removes slots. Everything that ends a run changes the status or draws a new lease_no, so a slot never
-- has to be freed by whoever ends it.
create or replace function commandbus.holds_slot(p_status text, p_lease_no bigint, p_slot_lease_no bigint)
returns boolean
language sql immutable
as $$
    select p_slot_lease_no = case p_status when 'IN_PROGRESS' then p_lease_no when 'PENDING' then p_lease_no + 1 else -1 end
$$;
