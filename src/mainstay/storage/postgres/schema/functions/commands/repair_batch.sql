-- Make a batch's counts what its commands say, send its missing completion command, or have it looked at again; or delete what is left of
-- a batch that is gone.
--
-- Called by repair. The difference is added as a delta, as everybody adds: commands and deltas are counted in one statement, so what
-- a sender or a worker commits meanwhile is in both or in neither. The next fold sums it up, and finishes the batch if that is due.
-- Locks: the batch row, so that two repairs do not add the same difference. Returns what was done, in words; null if nothing was wrong.
create or replace function commandbus.repair_batch(p_domain text, p_batch_id uuid)
returns text
language plpgsql volatile
as $$
declare
    v_batch commandbus.batch;
    v_refusal text;
    v_did text;
begin
    select b.* into v_batch from commandbus.batch as b where b.batch_id = p_batch_id and b.domain = p_domain for update;
    if not found or v_batch.forgotten_at is not null then
        delete from commandbus.batch_delta as d
        where d.domain = p_domain and d.batch_id = p_batch_id and v_batch.batch_id is null;
        return case when found then 'the deltas of no batch are deleted' end;
    end if;

    with counted as (
        select count(*) as total,
               count(*) filter (where c.status = 'COMPLETED') as completed,
               count(*) filter (where c.status = 'FAILED') as failed,
               count(*) filter (where c.status = 'CANCELED') as canceled,
               count(*) filter (where c.status = 'IN_TROUBLESHOOTING_QUEUE') as troubleshooting
        from commandbus.command as c where c.batch_id = p_batch_id and c.domain = p_domain
    ), pending as (
        select coalesce(sum(d.total), 0) as total, coalesce(sum(d.completed), 0) as completed, coalesce(sum(d.failed), 0) as failed,
               coalesce(sum(d.canceled), 0) as canceled, coalesce(sum(d.troubleshooting), 0) as troubleshooting
        from commandbus.batch_delta as d where d.batch_id = p_batch_id and d.domain = p_domain
    ), difference as (
        select c.total - b.total_count - p.total as total, c.completed - b.completed_count - p.completed as completed,
               c.failed - b.failed_count - p.failed as failed, c.canceled - b.canceled_count - p.canceled as canceled,
               c.troubleshooting - b.troubleshooting_count - p.troubleshooting as troubleshooting
        from commandbus.batch as b, counted as c, pending as p
        where b.batch_id = p_batch_id and b.domain = p_domain
    )
    insert into commandbus.batch_delta (domain, batch_id, total, completed, failed, canceled, troubleshooting)
    select p_domain, p_batch_id, f.total, f.completed, f.failed, f.canceled, f.troubleshooting
    from difference as f
    where (f.total, f.completed, f.failed, f.canceled, f.troubleshooting) <> (0, 0, 0, 0, 0);
    if found then
        v_did := 'its counts are set to those of its commands';
    end if;

    if v_batch.completed_at is not null and v_batch.on_complete is not null and not exists (
        select from commandbus.command as c
        where c.command_id = (v_batch.on_complete ->> 'command_id')::uuid and c.domain = v_batch.on_complete ->> 'domain')
    then
        select s.refusal into v_refusal from commandbus.send(jsonb_build_array(v_batch.on_complete)) as s;
        if v_refusal is not null then
            raise exception 'its completion command cannot be sent: %', v_refusal using errcode = 'MS001', detail = v_refusal;
        end if;
        v_did := concat_ws('; ', v_did, 'its completion command is sent');
    end if;

    if v_did is null and v_batch.completed_at is null and not exists (
        select from commandbus.batch_delta as d where d.domain = p_domain and d.batch_id = p_batch_id)
    then
        insert into commandbus.batch_delta (domain, batch_id) values (p_domain, p_batch_id);
        v_did := 'the next worker looks whether it has ended';
    end if;
    return v_did;
end;
$$;
