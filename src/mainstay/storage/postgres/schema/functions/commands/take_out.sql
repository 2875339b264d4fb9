-- Take commands out of where they wait: their messages, their deferred, keyed and parked rows.
--
-- Called by cancel_pending and undo, which hold those rows and the command rows.
create or replace function commandbus.take_out(p_domain text, p_command_ids uuid[], p_msg_ids bigint[])
returns void
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
    if array_remove(p_msg_ids, null) <> '{}' then
        execute format('delete from %s where msg_id = any ($1)', commandbus.queue_table(p_domain || '__commands'))
        using array_remove(p_msg_ids, null);
    end if;
    delete from commandbus.deferred as d using unnest(p_command_ids) as t(id)
    where d.command_id = any (array[t.id]) and d.domain || '' = p_domain;
    delete from commandbus.parked as p using unnest(p_command_ids) as t(id)
    where p.command_id = any (array[t.id]) and p.domain || '' = p_domain;
    delete from commandbus.keyed as k
    using unnest(p_command_ids) as t(id)
    join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain
    where k.domain = p_domain and k.key = any (array[c.key]) and k.subject_no = c.subject_no;
end;
$$;
