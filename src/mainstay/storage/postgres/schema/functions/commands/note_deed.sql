-- Write down what an operator did, in the transaction that does it.
--
-- Called by whatever changes something that has no audit trail of its own. Who and why come from the arguments, or else from the settings
-- mainstay.operator and mainstay.reason of this transaction (see operator_scope); the database's role is noted besides. Inserts only; nobody waits
-- for it. What is rolled back was not done, and leaves no row.
create or replace function commandbus.note_deed(
    p_kind text, p_subject text, p_what text, p_details jsonb default '{}', p_operator text default null, p_reason text default null)
returns void
language sql volatile
as $$
    insert into commandbus.operator_trail (operator, kind, subject, what, reason, details)
    values (
        coalesce(nullif(p_operator, ''), commandbus.named_operator()), p_kind, p_subject, p_what,
        coalesce(nullif(p_reason, ''), nullif(current_setting('mainstay.reason', true), '')), p_details)
$$;
