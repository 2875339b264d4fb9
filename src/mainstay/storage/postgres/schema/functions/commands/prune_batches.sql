-- Take from batches that ended what is no longer needed: custom data, what the completion command held, and the audit. With p_forget
-- their commands may be forgotten, too, when all of them have ended long ago; and when none of them is left, nor a part, the batch is deleted.
--
-- Called by Pruner and `mainstay prune` before commandbus.prune, and with p_forget once more after it. Walks at most p_limit batches in the order of
-- their ids after the given one (and others of the same id), and returns the last; last_at is null at the end. A batch counts from when it ended.
--
-- Locks: rows of ended batches in the order of ids, skipping locked ones. A sender into a batch reads that it is there and locks
-- nothing: one that sends into a batch at the moment in which it is deleted, long after its end, leaves a delta that fsck finds.
create or replace function commandbus.prune_batches(
    p_ended_before timestamptz, p_audit_before timestamptz, p_forget boolean, p_after_id uuid, p_limit integer)
returns table (walked integer, pruned integer, forgotten integer, audit_deleted bigint, last_at timestamptz, last_id uuid)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
declare
    v_batches commandbus.batch[];
    v_old commandbus.batch[];
    v_gone commandbus.batch[];
begin
    select array_agg(w.b order by (w.b).batch_id) into v_batches
    from (
        select b from commandbus.batch as b
        where b.batch_id > p_after_id
        order by b.batch_id
        fetch first p_limit rows with ties
    ) as w;
    walked := coalesce(cardinality(v_batches), 0);
    pruned := 0;
    forgotten := 0;
    audit_deleted := 0;
    if walked = 0 then
        return next;
        return;
    end if;
    last_at := (v_batches[walked]).created_at;
    last_id := (v_batches[walked]).batch_id;

    select array_agg(l.b), array_agg(l.b) filter (where (l.b).completed_at < p_audit_before) into v_batches, v_old
    from (
        select b
        from (select g.batch_id, g.domain from unnest(v_batches) as g order by g.batch_id, g.domain) as given
        join commandbus.batch as b on b.batch_id = any (array[given.batch_id]) and b.domain = given.domain
        where b.completed_at < p_ended_before
        order by b.batch_id, b.domain
        for no key update of b skip locked
    ) as l;
    if v_batches is null then
        return next;
        return;
    end if;

    update commandbus.batch as b
    set custom_data = null, pruned_at = clock_timestamp(),
        on_complete = jsonb_build_object('domain', b.on_complete -> 'domain', 'command_id', b.on_complete -> 'command_id')
    from unnest(v_batches) as g
    where b.batch_id = any (array[g.batch_id]) and b.domain = g.domain and b.pruned_at is null;
    get diagnostics pruned = row_count;

    delete from commandbus.audit as a using unnest(v_old) as g where a.subject_no = any (array[g.subject_no]);
    get diagnostics audit_deleted = row_count;

    if p_forget then
        update commandbus.batch as b set forgotten_at = clock_timestamp()
        from unnest(v_old) as g
        where b.batch_id = any (array[g.batch_id]) and b.domain = g.domain and b.forgotten_at is null and not exists (
            select from commandbus.command as c
            where c.batch_id = any (array[b.batch_id]) and c.domain = b.domain
              and (c.status not in ('COMPLETED', 'FAILED', 'CANCELED') or c.updated_at >= p_audit_before));
        with gone as (
            delete from commandbus.batch as b
            using unnest(v_old) as g
            where b.batch_id = any (array[g.batch_id]) and b.domain = g.domain and b.forgotten_at is not null
              and not exists (
                  select from commandbus.command as c where c.batch_id = any (array[b.batch_id]) and c.domain = b.domain)
              and not exists (
                  select from commandbus.batch as part where part.domain = b.domain and part.parent_id = any (array[b.batch_id]))
            returning b.*
        )
        select array_agg(n::commandbus.batch) into v_gone from gone as n;
        forgotten := coalesce(cardinality(v_gone), 0);
        delete from commandbus.batch_delta as d using unnest(v_gone) as g
        where d.domain = g.domain and d.batch_id = any (array[g.batch_id]);
    end if;
    return next;
end;
$$;
