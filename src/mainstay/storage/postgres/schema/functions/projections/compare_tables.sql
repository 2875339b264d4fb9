-- What differs between two tables, in the columns that both have: how many rows each has, and how many and which are in one of them only.
--
-- Columns that the database numbers by itself are left out, and those named in p_except. Reads both tables as a whole, under one snapshot for
-- each of its questions: call it where nobody writes to them.
create or replace function eventsource.compare_tables(p_old text, p_new text, p_except text[], p_sample integer)
returns jsonb
language plpgsql stable
as $$
declare
    v_except text[];
    v_old bigint;
    v_new bigint;
    v_gone jsonb;
    v_come jsonb;
    c_difference constant text :=
        'with d as (select to_jsonb(a) - $1 as r from %s as a except all select to_jsonb(b) - $1 from %s as b)
         select jsonb_build_object(
             ''rows'', (select count(*) from d),
             ''sample'', coalesce((select jsonb_agg(s.r) from (select d.r from d order by d.r::text limit $2) as s), ''[]''))';
begin
    select coalesce(array_agg(distinct c.attname::text), '{}') || p_except into v_except
    from pg_attribute as c
    left join pg_attrdef as f on f.adrelid = c.attrelid and f.adnum = c.attnum
    where c.attrelid in (p_old::regclass, p_new::regclass) and c.attnum > 0 and not c.attisdropped
        and (c.attidentity <> '' or pg_get_expr(f.adbin, f.adrelid) like 'nextval(%'
            or (select count(*) from pg_attribute as o
                where o.attrelid in (p_old::regclass, p_new::regclass) and o.attname = c.attname and not o.attisdropped) < 2);
    execute format('select count(*) from %s', p_old::regclass) into v_old;
    execute format('select count(*) from %s', p_new::regclass) into v_new;
    execute format(c_difference, p_old::regclass, p_new::regclass) into v_gone using v_except, p_sample;
    execute format(c_difference, p_new::regclass, p_old::regclass) into v_come using v_except, p_sample;
    return jsonb_build_object(
        'old', v_old, 'new', v_new, 'only_old', v_gone -> 'rows', 'only_new', v_come -> 'rows',
        'sample_old', v_gone -> 'sample', 'sample_new', v_come -> 'sample');
end;
$$;
