-- Let commands go that a breaker holds: into the queue, behind what is there, or into the line of their key.
--
-- Called by work_breakers, which holds their rows, and by repair. Then locks command rows in the order of ids, see make_ready.
create or replace function commandbus.release_held(p_domain text, p_command_ids uuid[], p_details jsonb)
returns void
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
as $$
begin
    delete from commandbus.parked as p using unnest(p_command_ids) as t(id)
    where p.command_id = any (array[t.id]) and p.domain || '' = p_domain;
    insert into commandbus.audit (subject_no, event_type, ts, details)
    select c.subject_no, 'RELEASED', clock_timestamp(), p_details
    from unnest(p_command_ids) as t(id)
    join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain;
    perform commandbus.make_ready(p_domain, p_command_ids, false);
end;
$$;
