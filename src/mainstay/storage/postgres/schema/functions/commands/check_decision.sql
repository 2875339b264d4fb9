-- Whether a decision on so many commands keeps to the operators' rules; true if a second operator must approve it.
--
-- Called by decide and begin_action. Raises MS021 if the rules ask for a reason and there is none, MS020 if a second operator would have to
-- approve what nobody put a name to.
create or replace function commandbus.check_decision(p_operator text, p_reason text, p_count bigint)
returns boolean
language plpgsql stable
as $$
declare
    v_rules commandbus.operator_rules;
begin
    select r.* into v_rules from commandbus.operator_rules as r;
    if v_rules.reason_required and coalesce(btrim(p_reason), '') = '' then
        raise exception 'the rules here ask for a reason' using errcode = 'MS021';
    elsif v_rules.approve_above is null or p_count <= v_rules.approve_above then
        return false;
    elsif coalesce(btrim(p_operator), '') = '' then
        raise exception 'this needs the approval of a second operator, and so the name of the first' using errcode = 'MS020';
    end if;
    return true;
end;
$$;
