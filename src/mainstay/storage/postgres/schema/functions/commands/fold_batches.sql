-- Sum up the deltas of a domain's batches, and finish the batches whose every command has had its turn.
--
-- Called by workers after a flush that touched batches, when idle, and by whoever wants to be sure. A batch is done when it is sealed, all its commands
-- are terminal or in troubleshooting, and the batches that are its parts are done; then, once, it gets completed_at, a BATCH_COMPLETED in the audit and its completion
-- command is sent. If that cannot be sent (its queue was dropped), the batch stays open and is looked at again. What operators do later changes the counts and nothing else.
-- Locks: batch rows with deltas, in the order of ids; under each, its delta rows. Holds nothing that a sender or a receiver needs for
-- longer than this call. Returns the batches finished by this call.
create or replace function commandbus.fold_batches(p_domain text)
returns table (batch_id uuid)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_batch commandbus.batch;
    v_id uuid;
    v_now timestamptz := clock_timestamp();
    v_refusal text;
begin
    for v_id in
        select distinct d.batch_id from commandbus.batch_delta as d where d.domain = p_domain order by d.batch_id
    loop
        select b.* into v_batch from commandbus.batch as b
        where b.batch_id = v_id and b.domain = p_domain
        for no key update;
        if not found then
            continue;
        end if;
        with gone as (
            delete from commandbus.batch_delta as d where d.domain = p_domain and d.batch_id = v_id returning d.*
        ), change as (
            select coalesce(sum(g.total), 0) as total, coalesce(sum(g.completed), 0) as completed,
                   coalesce(sum(g.failed), 0) as failed, coalesce(sum(g.canceled), 0) as canceled,
                   coalesce(sum(g.troubleshooting), 0) as troubleshooting
            from gone as g
        )
        update commandbus.batch as b
        set total_count = b.total_count + ch.total, completed_count = b.completed_count + ch.completed,
            failed_count = b.failed_count + ch.failed, canceled_count = b.canceled_count + ch.canceled,
            troubleshooting_count = b.troubleshooting_count + ch.troubleshooting
        from change as ch
        where b.batch_id = v_id and b.domain = p_domain
        returning b.* into v_batch;

        if v_batch.completed_at is null
           and v_batch.sealed
           and v_batch.completed_count + v_batch.failed_count + v_batch.canceled_count + v_batch.troubleshooting_count
               >= v_batch.total_count
           and not exists (
               select from commandbus.batch as part
               where part.domain = p_domain and part.parent_id = v_id and part.completed_at is null)
        then
            if v_batch.on_complete is not null then
                select s.refusal into v_refusal from commandbus.send(jsonb_build_array(v_batch.on_complete)) as s;
                if not found then  -- somebody used its id meanwhile: it is sent all the same, under a new one
                    v_batch.on_complete := v_batch.on_complete || jsonb_build_object('command_id', gen_random_uuid());
                    select s.refusal into v_refusal from commandbus.send(jsonb_build_array(v_batch.on_complete)) as s;
                end if;
                if v_refusal is not null then
                    raise warning 'batch %: its completion command cannot be sent: %', v_id, v_refusal;
                    insert into commandbus.batch_delta (domain, batch_id) values (p_domain, v_id);
                    continue;
                end if;
            end if;
            update commandbus.batch as b
            set completed_at = v_now,
                started_at = coalesce(b.started_at, v_now), on_complete = v_batch.on_complete,
                status = case
                    when b.completed_count = b.total_count and not exists (
                        select from commandbus.batch as part
                        where part.domain = p_domain and part.parent_id = v_id and part.status <> 'COMPLETED') then 'COMPLETED'
                    else 'COMPLETED_WITH_FAILURES' end
            where b.batch_id = v_id and b.domain = p_domain;
            insert into commandbus.audit (subject_no, event_type, ts, details)
            values (v_batch.subject_no, 'BATCH_COMPLETED', v_now, jsonb_build_object(
                'total', v_batch.total_count, 'completed', v_batch.completed_count, 'failed', v_batch.failed_count,
                'canceled', v_batch.canceled_count, 'in_troubleshooting', v_batch.troubleshooting_count,
                'completion_command_id', v_batch.on_complete ->> 'command_id'));
            if v_batch.parent_id is not null then  -- for the next call: locks are taken in the order of ids
                insert into commandbus.batch_delta (domain, batch_id) values (p_domain, v_batch.parent_id);
            end if;
            return query select v_id;
        end if;
    end loop;
end;
$$;
