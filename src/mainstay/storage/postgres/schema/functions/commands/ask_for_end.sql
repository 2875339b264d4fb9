-- Ask for the end of commands that are being handled; those that are not, or are asked already, are left alone.
--
-- Called by cancel and, for a batch, by cancel_pending. Notes the request, which complete and receive obey when a command comes back, and
-- tells the workers that have them; one that does not listen learns of it with its next renewal. Locks command rows in the order of ids.
-- Returns those that are being handled, also if they were asked before. A crash before COMMIT asks nobody.
create or replace function commandbus.ask_for_end(p_domain text, p_command_ids uuid[], p_request jsonb)
returns setof uuid
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_ids uuid[];
    v_asked bigint[];
begin
    select array_agg(l.command_id) into v_ids
    from (
        select c.command_id
        from (select distinct t.id from unnest(p_command_ids) as t(id) order by t.id) as given
        join commandbus.command as c on c.command_id = any (array[given.id]) and c.domain || '' = p_domain
        where c.status = 'IN_PROGRESS'
        order by c.command_id
        for update of c
    ) as l;
    with asked as (
        update commandbus.command as c set cancel_request = jsonb_build_object('reason', p_request -> 'reason') || case
            when commandbus.named_operator() is null then '{}' else jsonb_build_object('operator', commandbus.named_operator()) end
        from unnest(v_ids) as t(id)
        where c.command_id = any (array[t.id]) and c.domain || '' = p_domain and c.cancel_request is null
        returning c.subject_no
    ), audited as (
        insert into commandbus.audit (subject_no, event_type, details)
        select a.subject_no, 'CANCEL_REQUESTED', p_request from asked as a
    )
    select array_agg(a.subject_no) into v_asked from asked as a;
    perform pg_notify('mainstay.' || w.worker, 'cancel')
    from (
        select distinct r.worker
        from unnest(v_asked) as t(subject_no)
        cross join lateral (
            select a.details ->> 'worker' as worker from commandbus.audit as a
            where a.subject_no = t.subject_no and a.event_type = 'RECEIVED'
            order by a.audit_id desc limit 1) as r
        where r.worker is not null
    ) as w;
    return query select t.id from unnest(v_ids) as t(id);
end;
$$;
