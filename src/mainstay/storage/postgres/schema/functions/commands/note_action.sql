-- Keep the trail of decisions on many commands: made or proposed, approved, stopped. Which commands, and what became of each, the action
-- itself says, and who took it back their audit trails.
--
-- Called by the trigger below, for each row. How far an action is changes none of these columns.
create or replace function commandbus.note_action()
returns trigger
language plpgsql
as $$
declare
    v_chosen jsonb := new.selection;
    v_details jsonb;
begin
    if jsonb_array_length(coalesce(v_chosen -> 'command_ids', '[]')) > 1 then
        v_chosen := v_chosen - 'command_ids';
    end if;
    v_details := jsonb_build_object('action', new.action, 'commands', new.total, 'selection', v_chosen);
    if tg_op = 'INSERT' then
        perform commandbus.note_deed(
            'ACTION', new.action_id::text, case new.state when 'PROPOSED' then 'PROPOSED' else 'DECIDED' end, v_details,
            new.operator, new.reason);
    elsif old.state <> 'STOPPED' and new.state = 'STOPPED' then
        perform commandbus.note_deed('ACTION', new.action_id::text, 'STOPPED', v_details, new.stopped_by);
    elsif old.state = 'PROPOSED' and new.state <> 'PROPOSED' then
        perform commandbus.note_deed('ACTION', new.action_id::text, 'APPROVED', v_details, new.approved_by);
    end if;
    return null;
end;
$$;

create or replace trigger note_action after insert or update of approved_by, stopped_by on commandbus.operator_action
for each row execute function commandbus.note_action();
