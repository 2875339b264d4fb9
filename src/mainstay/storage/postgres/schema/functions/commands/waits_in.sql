-- Where a command waits: any of QUEUE, DEFERRED, KEYED and PARKED.
--
-- Called by repair_place, which locks the rows first and looks again afterwards. Locks nothing.
create or replace function commandbus.waits_in(p_domain text, p_command_id uuid)
returns text[]
language plpgsql volatile
as $$
declare
    v_msg_id bigint;
    v_has_message boolean;
    v_places text[];
begin
    select c.msg_id into v_msg_id from commandbus.command as c where c.command_id = p_command_id and c.domain = p_domain;
    execute format('select exists (select from %s where msg_id = $1)', commandbus.queue_table(p_domain || '__commands'))
    using v_msg_id into v_has_message;
    select array_agg(w.place) into v_places
    from (
        select 'QUEUE' as place where v_has_message
        union all
        select 'DEFERRED' from commandbus.deferred as d where d.command_id = p_command_id and d.domain = p_domain
        union all
        select 'KEYED' from commandbus.keyed as k
        join commandbus.command as c on c.domain = k.domain and c.key = k.key and c.subject_no = k.subject_no
        where c.command_id = p_command_id and c.domain = p_domain
        union all
        select 'PARKED' from commandbus.parked as p where p.command_id = p_command_id and p.domain = p_domain
    ) as w;
    return coalesce(v_places, '{}');
end;
$$;
