-- The control: what completing looks like to somebody who has not thought of late workers. Put in place of the real function, on
-- a database of its own, it shows that the tests would see stale outcomes if they were let in.
create or replace function commandbus.complete(p_domain text, p_outcomes jsonb, p_positions bigint[] default null)
returns table (command_id uuid, verdict text)
language plpgsql volatile
as $$
#variable_conflict use_column
begin
    execute format(
        'delete from %s where msg_id in (select (o ->> ''msg_id'')::bigint from jsonb_array_elements($1) as o)',
        commandbus.queue_table(p_domain || '__commands'))
    using p_outcomes;
    return query
        with given as (
            select o.* from jsonb_to_recordset(p_outcomes) as o(command_id uuid, verb text, result jsonb)
        ), done as (
            update commandbus.command as c
            set status = 'COMPLETED', result = g.result, updated_at = clock_timestamp()
            from given as g
            where c.command_id = g.command_id and c.domain = p_domain and g.verb = 'COMPLETE'
            returning c.subject_no
        ), audited as (
            insert into commandbus.audit (subject_no, event_type)
            select d.subject_no, 'COMPLETED' from done as d
        )
        select g.command_id, 'APPLIED' from given as g;
end;
$$;

-- The same for a handler's transaction.
create or replace function commandbus.complete_one(
    p_domain text, p_command_id uuid, p_lease_no bigint, p_result jsonb)
returns boolean
language plpgsql volatile
as $$
declare
    v_subject_no bigint;
begin
    update commandbus.command as c set status = 'COMPLETED', result = p_result, updated_at = clock_timestamp()
    where c.command_id = p_command_id and c.domain = p_domain
    returning c.subject_no into v_subject_no;
    insert into commandbus.audit (subject_no, event_type) values (v_subject_no, 'COMPLETED');
    return false;
end;
$$;
