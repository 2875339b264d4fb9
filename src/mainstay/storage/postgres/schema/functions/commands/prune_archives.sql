-- Delete old messages from the archives of PGMQ's queues, at most p_limit from each.
--
-- Called by Pruner and `mainstay prune`, until it returns 0. Archives are only written to; nobody waits for what this locks.
create or replace function commandbus.prune_archives(p_archived_before timestamptz, p_limit integer)
returns bigint
language plpgsql volatile
as $$
declare
    v_queue text;
    v_table regclass;
    v_deleted bigint;
    v_total bigint := 0;
begin
    for v_queue in select m.queue_name from pgmq.meta as m order by m.queue_name loop
        v_table := to_regclass(format('pgmq.%I', 'a_' || lower(v_queue)));
        continue when v_table is null;
        execute format(
            'delete from %1$s where msg_id = any (array('
            '  select a.msg_id from %1$s as a where a.archived_at < $1 order by a.archived_at limit $2 for update skip locked))', v_table)
        using p_archived_before, p_limit;
        get diagnostics v_deleted = row_count;
        v_total := v_total + v_deleted;
    end loop;
    return v_total;
end;
$$;
