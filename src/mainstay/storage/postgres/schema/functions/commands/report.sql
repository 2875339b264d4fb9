-- Note how far commands are that their handlers still run.
--
-- Called by workers, now and then. p_reports is an array of {command_id, lease_no, progress}. A report under a lost lease changes
-- nothing. It is a help for people and must hold up nobody: a command row that somebody else has locked is passed by, the next report
-- comes soon.
-- Locks: command rows in the order of ids, skipping locked ones. No index holds what it changes.
create or replace function commandbus.report(p_domain text, p_reports jsonb)
returns void
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_now timestamptz := clock_timestamp();
begin
    with free as materialized (
        select c.command_id, r.progress
        from jsonb_to_recordset(p_reports) as r(command_id uuid, lease_no bigint, progress jsonb)
        join commandbus.command as c on c.command_id = any (array[r.command_id]) and c.domain || '' = p_domain
        where c.lease_no = r.lease_no and c.status = 'IN_PROGRESS'
        order by c.command_id
        for update of c skip locked
    )
    update commandbus.command as c
    set progress = f.progress || jsonb_build_object('at', v_now)
    from free as f
    where c.command_id = any (array[f.command_id]) and c.domain || '' = p_domain;
end;
$$;
