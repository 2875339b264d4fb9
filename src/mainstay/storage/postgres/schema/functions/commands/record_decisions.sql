-- Write down what handlers decided on aggregates, with the end of their commands.
--
-- Called by complete and complete_decided, in their transaction, for commands that this transaction completed or failed: so there is one row
-- for each command. The arrays are parallel; a decision is {category, tenant_id, stream_id, version_read, events, handler, handler_version,
-- sent: [{domain, command_id}]}.
-- Locks nothing: the rows are new, and the commands' rows are the caller's.
-- A crash before COMMIT leaves neither the decisions nor what was decided.
create or replace function commandbus.record_decisions(
    p_domain text, p_decided_at timestamptz, p_subject_nos bigint[], p_command_ids uuid[], p_decisions jsonb[])
returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
as $$
begin
    insert into commandbus.decision (
        subject_no, decided_at, command_id, version_read, events, domain, category, tenant_id, stream_id, handler, handler_version,
        sent_domains, sent_ids)
    select
        t.subject_no, p_decided_at, t.command_id, (t.decision ->> 'version_read')::integer, (t.decision ->> 'events')::integer, p_domain,
        t.decision ->> 'category', coalesce(t.decision ->> 'tenant_id', ''), t.decision ->> 'stream_id', t.decision ->> 'handler',
        t.decision ->> 'handler_version',
        case when t.decision ? 'sent' then array(
            select s.value ->> 'domain' from jsonb_array_elements(t.decision -> 'sent') with ordinality as s(value, place) order by s.place) end,
        case when t.decision ? 'sent' then array(
            select (s.value ->> 'command_id')::uuid
            from jsonb_array_elements(t.decision -> 'sent') with ordinality as s(value, place) order by s.place) end
    from unnest(p_subject_nos, p_command_ids, p_decisions) as t(subject_no, command_id, decision);
end;
$$;
