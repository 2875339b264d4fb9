-- Mark batches as started, once each.
--
-- Called by receive, at most once or twice in a batch's life. Locks the batch rows in the order of ids. The only other holder of
-- that lock is fold_batches, which waits for nothing that a receiver holds.
create or replace function commandbus.start_batches(p_domain text, p_batch_ids uuid[])
returns void
language sql volatile
as $$
    with unstarted as (
        select b.batch_id from commandbus.batch as b
        where b.batch_id = any (p_batch_ids) and b.domain = p_domain and b.started_at is null
        order by b.batch_id
        for no key update
    ), started as (
        update commandbus.batch as b
        set started_at = clock_timestamp(),
            status = case when b.status = 'PENDING' then 'IN_PROGRESS' else b.status end
        from unstarted as u
        where b.batch_id = u.batch_id and b.domain = p_domain
        returning b.subject_no
    )
    insert into commandbus.audit (subject_no, event_type)
    select s.subject_no, 'BATCH_STARTED' from started as s
$$;
