-- Keep the trail of pauses and limits: paused, resumed; set, changed, removed.
--
-- Called by the trigger below, for each row. A gate's row is made before it is filled, and removed after it is emptied.
create or replace function commandbus.note_gate()
returns trigger
language plpgsql
as $$
declare
    v_old commandbus.gate;
    v_new commandbus.gate;
    v_before jsonb;
    v_after jsonb;
    v_subject text := coalesce(new.domain, old.domain) || coalesce('.' || nullif(coalesce(new.command_type, old.command_type), ''), '');
begin
    if tg_op <> 'INSERT' then
        v_old := old;
    end if;
    if tg_op <> 'DELETE' then
        v_new := new;
    end if;
    if v_old.paused_at is null and v_new.paused_at is not null then
        perform commandbus.note_deed('PAUSE', v_subject, 'PAUSED', '{}', v_new.paused_by, v_new.pause_reason);
    elsif v_old.paused_at is not null and v_new.paused_at is null then
        perform commandbus.note_deed('PAUSE', v_subject, 'RESUMED', jsonb_strip_nulls(jsonb_build_object(
            'paused_at', v_old.paused_at, 'paused_by', v_old.paused_by, 'pause_reason', v_old.pause_reason)));
    end if;
    v_before := jsonb_strip_nulls(jsonb_build_object(
        'max_running', v_old.max_running, 'per', v_old.per, 'max_running_per', v_old.max_running_per,
        'rate', v_old.rate, 'per_seconds', v_old.per_seconds, 'burst', v_old.burst));
    v_after := jsonb_strip_nulls(jsonb_build_object(
        'max_running', v_new.max_running, 'per', v_new.per, 'max_running_per', v_new.max_running_per,
        'rate', v_new.rate, 'per_seconds', v_new.per_seconds, 'burst', v_new.burst));
    if v_before <> v_after then
        perform commandbus.note_deed(
            'LIMIT', v_subject, case '{}'::jsonb when v_before then 'SET' when v_after then 'REMOVED' else 'CHANGED' end,
            commandbus.what_differs(v_before, v_after));
    end if;
    return null;
end;
$$;

create or replace trigger note_gate
after insert or delete or update of paused_at, max_running, per, max_running_per, rate, per_seconds, burst on commandbus.gate
for each row execute function commandbus.note_gate();
