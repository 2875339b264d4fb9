-- Complete one command whose handler decided on an aggregate, and write the decision down.
--
-- Called by workers instead of complete_one, in the same script, and returns and raises what that does. p_decision is as one of those that record_decisions takes.
-- Locks: those of complete_one.
-- A crash before COMMIT leaves the command leased and nothing of its handler; after it command, events and decision are there.
create or replace function commandbus.complete_decided(
    p_domain text, p_command_id uuid, p_lease_no bigint, p_result jsonb, p_decision jsonb)
returns boolean
language plpgsql volatile
as $$
declare
    v_is_awaited boolean := commandbus.complete_one(p_domain, p_command_id, p_lease_no, p_result);
begin
    perform commandbus.record_decisions(p_domain, c.updated_at, array[c.subject_no], array[p_command_id], array[p_decision])
    from commandbus.command as c
    where c.command_id = p_command_id and c.domain = p_domain;
    return v_is_awaited;
end;
$$;
