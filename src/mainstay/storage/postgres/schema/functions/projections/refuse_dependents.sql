-- Refuse to rebuild tables that something else hangs on: raises 2BP01.
--
-- A view and a foreign key follow a table, not its name: after a swap they would still mean the old one. Foreign keys among the tables themselves are let
-- pass. Locks nothing.
create or replace function eventsource.refuse_dependents(p_tables text[])
returns void
language plpgsql stable
as $$
declare
    v_found text;
    v_table text;
begin
    select d.what, d.refobjid::regclass::text into v_found, v_table
    from (
        select 'view ' || r.ev_class::regclass::text as what, d.refobjid
        from pg_depend as d join pg_rewrite as r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
        where d.refclassid = 'pg_class'::regclass and r.ev_class <> d.refobjid
        union all
        select 'foreign key ' || c.conname || ' of ' || c.conrelid::regclass::text, c.confrelid
        from pg_constraint as c
        where c.contype = 'f' and c.conrelid <> all (select to_regclass(t)::oid from unnest(p_tables) as t where to_regclass(t) is not null)
    ) as d
    where d.refobjid = any (select to_regclass(t)::oid from unnest(p_tables) as t)
    limit 1;
    if found then
        raise exception
            'the % hangs on table %, and would mean the old one after a swap: drop it, and make it again afterwards', v_found, v_table
            using errcode = '2BP01';
    end if;
end;
$$;
