-- Keep the trail of what operators must keep to.
--
-- Called by the trigger below, for each row.
create or replace function commandbus.note_rules()
returns trigger
language plpgsql
as $$
declare
    v_before jsonb := '{"approve_above": null, "reason_required": false}';
    v_after jsonb := v_before;
    v_details jsonb;
begin
    if tg_op <> 'INSERT' then
        v_before := jsonb_build_object('approve_above', old.approve_above, 'reason_required', old.reason_required);
    end if;
    if tg_op <> 'DELETE' then
        v_after := jsonb_build_object('approve_above', new.approve_above, 'reason_required', new.reason_required);
    end if;
    v_details := commandbus.what_differs(v_before, v_after);
    if v_details is not null then
        perform commandbus.note_deed('RULES', 'operators', 'CHANGED', v_details, case when tg_op <> 'DELETE' then new.changed_by end);
    end if;
    return null;
end;
$$;

create or replace trigger note_rules after insert or update or delete on commandbus.operator_rules
for each row execute function commandbus.note_rules();
