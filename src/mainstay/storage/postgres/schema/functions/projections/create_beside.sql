-- Make an empty table of the form of another, in the same schema: columns, defaults, constraints but foreign keys, indexes.
--
-- Raises 42P01 if there is no such table; 0A000 if it has triggers or row-level security, which would be missing in the copy; and what refuse_dependents does.
-- The new table takes no locks on the old one beyond those of a reader.
create or replace function eventsource.create_beside(p_table text, p_beside text)
returns void
language plpgsql volatile
as $$
declare
    v_table regclass := to_regclass(p_table);
    v_name text[] := parse_ident(p_beside);
begin
    if v_table is null then
        raise exception 'there is no table %', p_table using errcode = '42P01';
    end if;
    if exists (select from pg_trigger as t where t.tgrelid = v_table and not t.tgisinternal)
        or exists (select from pg_class as c where c.oid = v_table and c.relrowsecurity)
    then
        raise exception 'table % has triggers or row-level security, which no copy has: make the new table yourself, in create_tables()', p_table
            using errcode = '0A000';
    end if;
    perform eventsource.refuse_dependents(array[p_table]);
    execute format(
        'create table %I.%I (like %s including all)',
        (select n.nspname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = v_table),
        v_name[cardinality(v_name)], v_table);
end;
$$;
