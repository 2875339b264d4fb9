-- Delete what operators did before a time.
--
-- Called by Pruner and `mainstay prune`; nothing else may delete from the trail. Returns how many rows. Rows are only ever added: nobody waits.
create or replace function commandbus.prune_trail(p_before timestamptz)
returns bigint
language plpgsql volatile
set mainstay.may_prune = 'on'
as $$
declare
    v_deleted bigint;
begin
    delete from commandbus.operator_trail as t where t.at < p_before;
    get diagnostics v_deleted = row_count;
    return v_deleted;
end;
$$;
