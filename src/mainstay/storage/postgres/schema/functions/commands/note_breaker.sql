-- Write down what happened to a breaker, or, without a fingerprint, to the rule of a type.
--
-- Called by whatever changes one. What an operator does, and whatever is done to a rule, stands in the operators' trail, too. Inserts only;
-- nobody waits for it.
create or replace function commandbus.note_breaker(
    p_domain text, p_command_type text, p_fingerprint text, p_event_type text, p_operator text default null,
    p_reason text default null, p_details jsonb default '{}')
returns void
language sql volatile
as $$
    insert into commandbus.breaker_event (domain, command_type, fingerprint, event_type, operator, reason, details)
    values (
        p_domain, p_command_type, p_fingerprint, p_event_type, coalesce(p_operator, commandbus.named_operator()), p_reason,
        jsonb_strip_nulls(p_details));
    select commandbus.note_deed(
        'BREAKER', p_domain || '.' || p_command_type, p_event_type,
        jsonb_strip_nulls(p_details || jsonb_build_object('fingerprint', p_fingerprint)), p_operator, p_reason)
    where p_fingerprint is null or coalesce(p_operator, commandbus.named_operator()) is not null;
$$;
