-- Who does what this transaction does, if an operator said so; else null.
--
-- Called by note_deed, and by what is an operator's deed only then: programs seal batches and cancel commands, too.
create or replace function commandbus.named_operator()
returns text
language sql stable
as $$
    select nullif(current_setting('mainstay.operator', true), '')
$$;
