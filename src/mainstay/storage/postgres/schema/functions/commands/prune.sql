-- Take from ended commands what is no longer needed: payload, headers and error text, and the audit. What stays is slim (id, type, outcome,
-- result, decision), so that a late resend of a known id is still refused. With p_forget even that is deleted.
--
-- Called by Pruner and `mainstay prune`, again and again, each call a small transaction. Walks at most p_limit commands in the order of
-- (created_at, command_id) after the given place, and returns the last place walked, null at the end; there is no index for this but the one that
-- lists commands. A command counts from when it ended (updated_at).
-- A claim to a unique key that an ended command no longer holds goes first; one that it still holds keeps the command from being forgotten.
-- A command of a batch, or one that a batch sends at its end, is not forgotten before the batch is (see prune_batches): the batch counts
-- on it. So does a process on its steps until it has ended.
--
-- Locks: ended command rows in the order of ids, then their claims, skipping locked ones; nobody waits for those but operators, whom it passes by,
-- and senders of the same unique keys.
-- A crash before COMMIT leaves everything; a second caller takes other rows, or finds nothing to do.
create or replace function commandbus.prune(
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
    v_domains text[];
    v_subjects bigint[];
    v_needed boolean[];
    v_keys text[];
begin
    select array_agg(w.command_id order by w.created_at, w.command_id), array_agg(w.domain order by w.created_at, w.command_id)
    into v_ids, v_domains
    from (
        select c.command_id, c.domain, c.created_at from commandbus.command as c
        where c.created_at >= p_after and c.created_at < p_ended_before and (c.created_at, c.command_id) > (p_after, p_after_id)
        order by c.created_at, c.command_id
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
    select c.created_at, c.command_id into last_at, last_id from commandbus.command as c
    where c.command_id = v_ids[walked] and c.domain = v_domains[walked];

    select array_agg(l.command_id), array_agg(l.domain), array_agg(l.subject_no), array_agg(l.is_needed), array_agg(l.unique_key)
    into v_ids, v_domains, v_subjects, v_needed, v_keys
    from (
        select c.command_id, c.domain, c.subject_no, c.unique_key,
               c.batch_id is not null and not exists (
                   select from commandbus.batch as b
                   where b.batch_id = any (array[c.batch_id]) and b.domain = c.domain and b.forgotten_at is not null) or exists (
                   select from commandbus.batch as b
                   where p_forget and b.on_complete is not null
                     and (b.on_complete ->> 'command_id')::uuid = any (array[c.command_id])) or p_forget and exists (
                   select from commandbus.process_step as s
                   join commandbus.process as p on p.process_id = any (array[s.process_id])
                   where s.command_id = any (array[c.command_id]) and p.completed_at is null) as is_needed
        from (select t.id, t.domain from unnest(v_ids, v_domains) as t(id, domain) order by t.id) as given
        join commandbus.command as c on c.command_id = any (array[given.id]) and c.domain = given.domain
        where c.status in ('COMPLETED', 'FAILED', 'CANCELED') and c.updated_at < p_ended_before
        order by c.command_id
        for update of c skip locked
    ) as l;
    if v_ids is null then
        return next;
        return;
    end if;

    if cardinality(array_remove(v_keys, null)) > 0 then
        delete from commandbus.unique_claim as u
        where u.ctid = any (array(
            select o.ctid from commandbus.unique_claim as o
            where o.unique_key = any (v_keys) and o.command_id = any (v_ids)
              and not commandbus.holds_unique(o.domain, o.command_id, o.held_until, null, clock_timestamp())
            order by o.unique_key, o.domain
            for update skip locked));
    end if;
    if p_forget then
        with gone as (
            delete from commandbus.command as c
            using unnest(v_ids, v_domains, v_needed) as t(id, domain, is_needed)
            where c.command_id = any (array[t.id]) and c.domain = t.domain and not t.is_needed and c.updated_at < p_audit_before
              and (c.unique_key is null or not exists (
                  select from commandbus.unique_claim as u
                  where u.unique_key = c.unique_key and u.domain = c.domain and u.command_id = c.command_id))
            returning c.subject_no
        ), undecided as (
            delete from commandbus.decision as d using gone as g where d.subject_no = any (array[g.subject_no])
        )
        select count(*) into forgotten from gone as g;
    end if;
    update commandbus.command as c
    set data = null, headers = null, progress = null, error_message = null, pruned_at = clock_timestamp()
    from unnest(v_ids, v_domains) as t(id, domain)
    where c.command_id = any (array[t.id]) and c.domain = t.domain and c.pruned_at is null;
    get diagnostics pruned = row_count;

    delete from commandbus.audit as a
    using unnest(v_ids, v_domains, v_subjects) as t(id, domain, subject_no)
    where a.subject_no = any (array[t.subject_no]) and not exists (
        select from commandbus.command as c
        where c.command_id = any (array[t.id]) and c.domain = t.domain and c.updated_at >= p_audit_before);
    get diagnostics audit_deleted = row_count;
    return next;
end;
$$;
