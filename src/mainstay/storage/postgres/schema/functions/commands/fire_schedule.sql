-- Send the commands of a schedule's due times, and note when it is due next.
--
-- Called by workers after take_schedule, and locks nothing more than send does: the schedule's row is held already. Ids are derived from
-- the schedule and the due time, so a known one was fired before, and is passed by; so is one whose unique key is held. Raises MS001 (detail: the queue) if there is no queue
-- for the command or its reply: the caller rolls back, and the schedule stays due. Returns how many commands were sent.
-- Gives up (55P03) when another transaction that is still open takes the unique key: the caller goes on with its other schedules.
create or replace function commandbus.fire_schedule(
    p_name text, p_due timestamptz[], p_command_ids uuid[], p_headers jsonb[], p_next_due_at timestamptz)
returns integer
language plpgsql volatile
set lock_timeout = '200ms'
as $$
declare
    v_schedule commandbus.schedule;
    v_commands jsonb;
    v_sent integer := 0;
    v_skipped uuid[] := '{}';
    v_fired uuid[];
    v_refusal text;
begin
    select s.* into strict v_schedule from commandbus.schedule as s where s.name = p_name for update;
    if cardinality(p_due) > 0 then
        select jsonb_agg(v_schedule.command || jsonb_build_object(
            'command_id', d.id, 'correlation_id', d.id,
            'headers', coalesce(v_schedule.command -> 'headers', '{}') || d.headers) order by d.place)
        into v_commands
        from unnest(p_command_ids, p_headers) with ordinality as d(id, headers, place);
        select
            count(*) filter (where a.refusal is null and a.holder_id is null), min(a.refusal),
            coalesce(array_agg(a.command_id) filter (where a.holder_id is not null), '{}')
        into v_sent, v_refusal, v_skipped
        from commandbus.send(v_commands) as a;
        if v_refusal is not null then
            raise exception 'schedule % cannot be fired: %', p_name, v_refusal using errcode = 'MS001', detail =
                case v_refusal when 'REPLY_QUEUE_NOT_FOUND' then v_schedule.command ->> 'reply_to'
                else v_schedule.domain || '__commands' end;
        end if;
    end if;
    v_fired := array(
        select d.id from unnest(p_command_ids) with ordinality as d(id, place) where d.id <> all (v_skipped) order by d.place);
    update commandbus.schedule as s
    set next_due_at = p_next_due_at, last_error = null,
        sent_count = s.sent_count + cardinality(v_fired), skipped_count = s.skipped_count + cardinality(v_skipped),
        last_due_at = coalesce(p_due[cardinality(p_due)], s.last_due_at),
        last_command_id = coalesce(v_fired[cardinality(v_fired)], s.last_command_id)
    where s.name = p_name;
    return v_sent;
end;
$$;
