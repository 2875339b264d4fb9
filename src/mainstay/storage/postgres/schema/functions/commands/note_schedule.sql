-- Keep the trail of schedules: set, changed, paused, resumed, removed.
--
-- Called by the trigger below, for each row. That a schedule is fired changes none of these columns; setting what is set already
-- changes nothing, and leaves no row. Payload and headers are not kept, only that they changed: they may be personal.
create or replace function commandbus.note_schedule()
returns trigger
language plpgsql
as $$
declare
    v_before jsonb;
    v_after jsonb;
    v_details jsonb;
begin
    if tg_op <> 'INSERT' then
        v_before := (old.command - 'data' - 'headers' - 'on_conflict') || jsonb_build_object(
            'cron', old.cron, 'every', old.every, 'timezone', old.timezone, 'not_before', old.not_before,
            'catch_up', old.catch_up, 'catch_up_limit', old.catch_up_limit);
    end if;
    if tg_op <> 'DELETE' then
        v_after := (new.command - 'data' - 'headers' - 'on_conflict') || jsonb_build_object(
            'cron', new.cron, 'every', new.every, 'timezone', new.timezone, 'not_before', new.not_before,
            'catch_up', new.catch_up, 'catch_up_limit', new.catch_up_limit);
    end if;
    if tg_op = 'UPDATE' then
        v_details := commandbus.what_differs(v_before, v_after);
        if (old.command -> 'data', old.command -> 'headers') is distinct from (new.command -> 'data', new.command -> 'headers') then
            v_details := coalesce(v_details, '{}') || '{"payload_changed": true}';
        end if;
        if v_details is not null then
            perform commandbus.note_deed('SCHEDULE', new.name, 'CHANGED', v_details);
        end if;
        if old.is_paused <> new.is_paused then
            perform commandbus.note_deed('SCHEDULE', new.name, case when new.is_paused then 'PAUSED' else 'RESUMED' end);
        end if;
    else
        perform commandbus.note_deed(
            'SCHEDULE', coalesce(new.name, old.name), case tg_op when 'INSERT' then 'SET' else 'REMOVED' end,
            commandbus.what_differs(v_before, v_after));
    end if;
    return null;
end;
$$;

create or replace trigger note_schedule
after insert or delete or update of command, cron, every, timezone, not_before, catch_up, catch_up_limit, is_paused on commandbus.schedule
for each row execute function commandbus.note_schedule();
