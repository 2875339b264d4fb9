-- What the schema runner asks and records. The record_ and forget_ statements take their values in {braces}, because the
-- same text goes into the script of `mainstay schema print`, which has no parameters.

-- name: read_committed
-- A snapshot older than the lock would not see what another process has just installed.
set transaction isolation level read committed;

-- name: lock
-- One installer at a time; released with the transaction, so it holds behind PgBouncer too.
select pg_advisory_xact_lock(hashtextextended('mainstay.schema', 0));

-- name: defer_function_bodies
-- Function files are applied in the order of their names, so a body may name a function that comes later.
set local check_function_bodies = off;

-- name: function_bodies_setting
-- What to put back when the functions are in: the transaction may be the caller's.
select current_setting('check_function_bodies');

-- name: restore_function_bodies
-- Put the setting back for the rest of the caller's transaction.
select set_config('check_function_bodies', %(value)s, true);

-- name: inspect
-- Is there a ledger, and a PGMQ, and is it new enough (1.5 brought headers)? Reads the catalog only: never fails.
select exists (
           select
             from pg_catalog.pg_class c
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where n.nspname = 'mainstay' and c.relname = 'migration'
       ) as has_ledger,
       exists (
           select
             from pg_catalog.pg_proc p
             join pg_catalog.pg_namespace n on n.oid = p.pronamespace
            where n.nspname = 'pgmq' and p.proname = 'send'
       ) as has_pgmq,
       exists (
           select
             from pg_catalog.pg_attribute a
             join pg_catalog.pg_class c on c.oid = a.attrelid
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where n.nspname = 'pgmq' and c.relname = 'message_record' and a.attname = 'headers'
       ) as has_pgmq_headers,
       (select extversion from pg_catalog.pg_extension where extname = 'pgmq') as pgmq_extension;

-- name: applied_migrations
-- The migrations that this database has.
select number, name, hash, breaking
  from mainstay.migration
 order by number;

-- name: applied_function_files
-- The function files as they were last applied.
select path, hash, release
  from mainstay.function_file
 order by path;

-- name: pgmq_install
-- How PGMQ came here, if it came with mainstay.
select method, version
  from mainstay.pgmq_install;

-- name: occupied_schemas
-- Which of these schemas hold something?
select n.nspname as name
  from pg_catalog.pg_namespace n
 where n.nspname = any (%(schemas)s::text[])
   and (   exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid)
        or exists (select from pg_catalog.pg_proc p where p.pronamespace = n.oid)
        or exists (select from pg_catalog.pg_type t where t.typnamespace = n.oid))
 order by n.nspname;

-- name: script_head
-- The printed script says it for the session: psql may run every statement as a transaction of its own.
set check_function_bodies = off;

-- name: script_foot
-- Leave the session as it was.
reset check_function_bodies;

-- name: refuse_occupied_schemas
-- The same for the printed script: somebody else's schema of our name must not become a part of ours.
do $mainstay$
begin
    if exists (
        select
          from pg_catalog.pg_namespace n
         where n.nspname = any ({schemas}::text[])
           and (   exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid)
                or exists (select from pg_catalog.pg_proc p where p.pronamespace = n.oid)
                or exists (select from pg_catalog.pg_type t where t.typnamespace = n.oid))
    ) then
        raise exception 'a schema of mainstay exists in this database already; nothing was changed'
            using errcode = 'duplicate_schema',
                  hint = 'Upgrade an older mainstay with "mainstay schema print --since N"; rename or drop a schema of '
                      || 'the same name that is not mainstay''s.';
    end if;
end
$mainstay$;

-- name: functions_in
-- Every function and procedure in these schemas, overloads one by one, with its body as it was written.
select n.nspname as schema,
       p.proname as name,
       pg_catalog.pg_get_function_identity_arguments(p.oid) as arguments,
       p.prosrc as body
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
 where n.nspname = any (%(schemas)s::text[])
 order by 1, 2, 3;

-- name: search_path_setting
-- What to put back when the objects are read: the transaction may be the caller's.
select current_setting('search_path');

-- name: set_search_path
-- With nothing in it, PostgreSQL writes every name with its schema, on whatever connection it is asked.
select set_config('search_path', %(value)s, true);

-- name: objects_in
-- Every table, column, constraint, index, trigger, view, sequence and type in these schemas, with the statement that makes it; of a view its columns only,
-- whose texts no two versions of PostgreSQL write differently. Constraints that are not null stand with their columns.
with ours as (
    select c.oid,
           c.relkind,
           n.nspname || '.' || c.relname as name,
           c.relname as bare
      from pg_catalog.pg_class c
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where n.nspname = any (%(schemas)s::text[])
), found as (
    select case relkind when 'v' then 'view' when 'c' then 'type' else 'table' end as kind, name as owner, bare as name, '' as definition
      from ours
     where relkind in ('r', 'p', 'v', 'c')
    union all
    select 'sequence', o.name, o.bare,
           format('create sequence %%s as %%s increment by %%s minvalue %%s maxvalue %%s cache %%s%%s', o.name, format_type(s.seqtypid, null),
                  s.seqincrement, s.seqmin, s.seqmax, s.seqcache, case when s.seqcycle then ' cycle' else '' end)
      from ours o
      join pg_catalog.pg_sequence s on s.seqrelid = o.oid
     where not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_class'::regclass and d.objid = o.oid and d.deptype = 'i')
    union all
    select 'column', o.name, a.attname,
           concat_ws(' ', 'alter table', o.name, 'add column', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                     case when a.attcollation <> t.typcollation then 'collate ' || quote_ident(l.collname) end,
                     case a.attidentity when 'a' then 'generated always as identity' when 'd' then 'generated by default as identity' end,
                     case when a.attgenerated <> '' then 'generated always as (' || pg_get_expr(e.adbin, e.adrelid) || ') stored'
                          else 'default ' || pg_get_expr(e.adbin, e.adrelid) end,
                     case when a.attnotnull then 'not null' end)
      from ours o
      join pg_catalog.pg_attribute a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
      join pg_catalog.pg_type t on t.oid = a.atttypid
      left join pg_catalog.pg_collation l on l.oid = a.attcollation
      left join pg_catalog.pg_attrdef e on e.adrelid = o.oid and e.adnum = a.attnum
     where o.relkind in ('r', 'p', 'v', 'c')
    union all
    select 'constraint', o.name, k.conname,
           format('alter table %%s add constraint %%I %%s', o.name, k.conname, pg_get_constraintdef(k.oid))
      from ours o
      join pg_catalog.pg_constraint k on k.conrelid = o.oid and k.contype in ('p', 'u', 'c', 'f', 'x')
    union all
    select 'index', o.name, x.relname, pg_get_indexdef(i.indexrelid)
      from ours o
      join pg_catalog.pg_index i on i.indrelid = o.oid
      join pg_catalog.pg_class x on x.oid = i.indexrelid
     where not exists (select from pg_catalog.pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))
    union all
    select 'trigger', o.name, g.tgname, pg_get_triggerdef(g.oid) || case when g.tgenabled in ('O', 'A') then '' else ' (disabled)' end
      from ours o
      join pg_catalog.pg_trigger g on g.tgrelid = o.oid and not g.tgisinternal
)
select kind, owner, name, definition
  from found
 order by array_position(array['table', 'type', 'sequence', 'view', 'column', 'constraint', 'index', 'trigger'], kind),
          owner collate "C", name collate "C";

-- name: record_migration
-- This database has a migration now. A second time fails on the primary key, and with it the whole upgrade.
insert into mainstay.migration (number, name, hash, breaking)
values ({number}, {name}, {hash}, {breaking});

-- name: record_function_file
-- A function file was applied.
insert into mainstay.function_file (path, hash, release)
values ({path}, {hash}, {release})
on conflict (path) do update
   set hash = excluded.hash, release = excluded.release, applied_at = now();

-- name: forget_function_files
-- Files that are gone; a migration has dropped their functions.
delete from mainstay.function_file
 where path <> all ({paths}::text[]);
