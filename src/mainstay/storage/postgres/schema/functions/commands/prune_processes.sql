-- Take from ended processes what is no longer needed: state, error text, what their steps sent and got, and the audit. With p_forget
-- the steps and the events are deleted; one that has ended is moved by no event. The process's own row stays: its steps' ids are derived from its id, so another process under this id would pass
-- over commands that are known, and wait for ever.
--
-- Called by Pruner and `mainstay prune` as commandbus.prune is, with the same arguments and results; forgotten counts steps. A process
-- counts from when it ended. One with a step that may still be done, or answered, is left alone: it would be undone then.
--
-- Locks: ended process rows in the order of ids, skipping locked ones; a late reply, deadline or cancellation waits for the COMMIT. A crash
-- before it leaves everything.
create or replace function commandbus.prune_processes(
    p_ended_before timestamptz, p_audit_before timestamptz, p_forget boolean, p_after timestamptz, p_after_id uuid, p_limit integer)
returns table (walked integer, pruned integer, forgotten integer, audit_deleted bigint, last_at timestamptz, last_id uuid)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
declare
    v_ids uuid[];
    v_old uuid[];
begin
    select array_agg(w.process_id order by w.created_at, w.process_id) into v_ids
    from (
        select p.process_id, p.created_at from commandbus.process as p
        where p.created_at >= p_after and p.created_at < p_ended_before and (p.created_at, p.process_id) > (p_after, p_after_id)
        order by p.created_at, p.process_id
        limit p_limit
    ) as w;
    walked := coalesce(cardinality(v_ids), 0);
    pruned := 0;
    forgotten := 0;
    audit_deleted := 0;
    if walked = 0 then
        return next;
        return;
    end if;
    select p.created_at, p.process_id into last_at, last_id from commandbus.process as p where p.process_id = v_ids[walked];

    select array_agg(l.process_id), array_agg(l.process_id) filter (where l.is_old) into v_ids, v_old
    from (
        select p.process_id, p.completed_at < p_audit_before as is_old
        from (select t.id from unnest(v_ids) as t(id) order by t.id) as given
        join commandbus.process as p on p.process_id = any (array[given.id])
        where p.completed_at < p_ended_before and not exists (
            select from commandbus.process_step as s
            join commandbus.command as c on c.command_id = any (commandbus.reply_ids(s.command_id) || s.command_id)
            where s.process_id = any (array[p.process_id]) and c.status not in ('COMPLETED', 'FAILED', 'CANCELED'))
        order by p.process_id
        for no key update of p skip locked
    ) as l;
    if v_ids is null then
        return next;
        return;
    end if;

    if p_forget then
        delete from commandbus.process_step as s
        using unnest(v_old) as t(id)
        where s.process_id = any (array[t.id]);
        get diagnostics forgotten = row_count;
        delete from commandbus.process_event as e
        using unnest(v_old) as t(id)
        where e.process_id = any (array[t.id]);
    end if;
    with slim as (
        update commandbus.process as p
        set state = '{}', error_message = null, pruned_at = clock_timestamp()
        from unnest(v_ids) as t(id)
        where p.process_id = any (array[t.id]) and p.pruned_at is null
        returning p.process_id
    ), slim_steps as (
        update commandbus.process_step as s set data = '{}', result = null, error_message = null
        from slim as p
        where s.process_id = any (array[p.process_id])
    )
    select count(*) into pruned from slim;

    delete from commandbus.process_audit as a
    using unnest(v_old) as t(id)
    where a.process_id = any (array[t.id]);
    get diagnostics audit_deleted = row_count;
    return next;
end;
$$;
