-- Write down what a handler decided on an aggregate, with the end of its command.
--
-- Called by complete and complete_decided, in their transaction, for a command that this transaction completed or failed: so there is one row
-- for each command. p_decision is {category, tenant_id, stream_id, version_read, events, handler, handler_version, sent: [{domain, command_id}]}.
-- Locks nothing: the row is new, and the command's row is the caller's.
-- A crash before COMMIT leaves neither the decision nor what was decided.
create or replace function commandbus.record_decision(
    p_subject_no bigint, p_domain text, p_command_id uuid, p_decided_at timestamptz, p_decision jsonb)
returns void
language plpgsql volatile
as $$
declare
    v_domains text[];
    v_ids uuid[];
begin
    if p_decision ? 'sent' then
        select array_agg(s.value ->> 'domain' order by s.place), array_agg((s.value ->> 'command_id')::uuid order by s.place)
        into v_domains, v_ids
        from jsonb_array_elements(p_decision -> 'sent') with ordinality as s(value, place);
    end if;
    insert into commandbus.decision (
        subject_no, decided_at, command_id, version_read, events, domain, category, tenant_id, stream_id, handler, handler_version,
        sent_domains, sent_ids)
    values (
        p_subject_no, p_decided_at, p_command_id, (p_decision ->> 'version_read')::integer, (p_decision ->> 'events')::integer, p_domain,
        p_decision ->> 'category', coalesce(p_decision ->> 'tenant_id', ''), p_decision ->> 'stream_id', p_decision ->> 'handler',
        p_decision ->> 'handler_version', v_domains, v_ids);
end;
$$;
