-- Rows of a table that the transaction of the caller has written, savepoints included, as they are there for it.
--
-- Called by a dry run before it rolls back. p_number is that of the transaction. A row that is visible, and whose writer is under way, is the caller's own.
-- Of a table larger than p_largest bytes none, because all of it would have to be read. Locks nothing.
create or replace function eventsource.written_rows(p_table regclass, p_number bigint, p_largest bigint, p_limit integer)
returns jsonb
language plpgsql volatile
as $$
declare
    v_rows jsonb;
begin
    if pg_relation_size(p_table) > p_largest then
        return '[]';
    end if;
    execute format(
        'select coalesce(jsonb_agg(w.r), ''[]'') from ('
        '    select to_jsonb(t) as r from %s as t, age($1::text::xid8::xid) as mine'
        '    where case when age(t.xmin) <= mine'
        '        then pg_xact_status(($1 + mine - age(t.xmin))::text::xid8) = ''in progress'' else false end'
        '    limit $2) as w', p_table)
    into v_rows using p_number, p_limit;
    return v_rows;
end;
$$;
