-- What stands in a table under the primary keys of the rows given, one answer for each; null where nothing does, or where there is no key.
--
-- Called by a dry run when it has rolled back, to show what its rows would replace. Locks nothing.
create or replace function eventsource.rows_there(p_table regclass, p_rows jsonb)
returns jsonb
language plpgsql stable
as $$
declare
    v_same text;
    v_rows jsonb;
begin
    select string_agg(format('t.%1$I = k.%1$I', a.attname), ' and ') into v_same
    from pg_catalog.pg_index as i
    join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
    where i.indrelid = p_table and i.indisprimary;
    execute format(
        'select coalesce(jsonb_agg((select to_jsonb(t) from %1$s as t, jsonb_populate_record(null::%1$s, r.value) as k where %2$s)'
        '    order by r.place), ''[]'')'
        ' from jsonb_array_elements($1) with ordinality as r(value, place)', p_table, coalesce(v_same, 'false'))
    into v_rows using p_rows;
    return v_rows;
end;
$$;
