-- Write one move of a process: its state and status, what became of steps, the steps that are sent now, and the audit.
--
-- Called by the handlers of replies, deadlines and cancellations, which hold the process's row, and by start_processes. The commands that the
-- steps are, and the completion of the command that moved the process, belong to the same transaction. p_change is {process_id, status,
-- state, ends_as, error_code, error_message, outcomes: [{step_no, status, result, error_code, error_message}], sent: [{step_no, name, undoes,
-- domain, command_type, command_id, data}], told: [{event_type, step_no, details}], armed: {name: command_id}, event: {event_id, event_type,
-- position, was_taken} or null}.
-- It keeps what later moves read instead of all steps: open_steps counts those under way. A step that is done for the first time is linked to
-- the one done before it, and is the last one done; the step that is being undone takes itself, and what was done after it, off that chain.
-- Locks: the process's row, held already. Nobody who holds a command or a queue row waits for a process, so it may come first.
create or replace function commandbus.advance_process(p_change jsonb)
returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_process_id uuid := (p_change ->> 'process_id')::uuid;
    v_open integer;
    v_last_done integer;
    v_sent integer;
    v_outcome record;
    v_undone integer;
begin
    select p.open_steps, p.last_done into v_open, v_last_done from commandbus.process as p where p.process_id = v_process_id;

    for v_outcome in
        select o.*, s.status as was, s.undoes is null and s.done_after is null and o.status = 'SUCCESS' as is_done
        from jsonb_to_recordset(p_change -> 'outcomes') as o(
            step_no integer, status text, result jsonb, error_code text, error_message text)
        join commandbus.process_step as s on s.process_id = v_process_id and s.step_no = o.step_no
        order by o.step_no
    loop
        update commandbus.process_step as s
        set status = v_outcome.status, result = v_outcome.result, error_code = v_outcome.error_code,
            error_message = v_outcome.error_message, replied_at = v_now,
            done_after = case when v_outcome.is_done then v_last_done else s.done_after end
        where s.process_id = v_process_id and s.step_no = v_outcome.step_no;
        v_open := v_open - (v_outcome.was = 'SENT' and v_outcome.status <> 'SENT')::integer;
        v_last_done := case when v_outcome.is_done then v_outcome.step_no else v_last_done end;
    end loop;

    insert into commandbus.process_step (process_id, step_no, name, undoes, domain, command_type, command_id, data, sent_at)
    select v_process_id, n.step_no, n.name, n.undoes, n.domain, n.command_type, n.command_id, n.data, v_now
    from jsonb_to_recordset(p_change -> 'sent') as n(
        step_no integer, name text, undoes integer, domain text, command_type text, command_id uuid, data jsonb);
    get diagnostics v_sent = row_count;

    for v_undone in
        select s.done_after
        from jsonb_to_recordset(p_change -> 'sent') as n(step_no integer, undoes integer)
        join commandbus.process_step as s on s.process_id = v_process_id and s.step_no = n.undoes
        where s.done_after is not null
        order by n.step_no
    loop
        v_last_done := v_undone;
    end loop;

    update commandbus.process as p
    set status = p_change ->> 'status', state = p_change -> 'state', ends_as = p_change ->> 'ends_as',
        error_code = p_change ->> 'error_code', error_message = p_change ->> 'error_message', updated_at = v_now,
        deadlines = coalesce(p_change -> 'armed', p.deadlines),
        open_steps = v_open + v_sent, last_done = v_last_done,
        completed_at = case
            when p_change ->> 'status' not in ('WAITING_FOR_REPLY', 'WAITING_FOR_EVENT', 'COMPENSATING') then v_now end
    where p.process_id = v_process_id;

    if jsonb_typeof(p_change -> 'event') = 'object' then
        insert into commandbus.process_event (process_id, event_id, event_type, position, was_taken, taken_at)
        select v_process_id, e.event_id, e.event_type, e.position, e.was_taken, v_now
        from jsonb_to_record(p_change -> 'event') as e(event_id uuid, event_type text, position bigint, was_taken boolean);
    end if;

    insert into commandbus.process_audit (process_id, ts, event_type, step_no, details)
    select v_process_id, v_now, t.value ->> 'event_type', (t.value ->> 'step_no')::integer, t.value -> 'details'
    from jsonb_array_elements(p_change -> 'told') with ordinality as t(value, place)
    order by t.place;
end;
$$;
