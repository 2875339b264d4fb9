-- PGMQ, if this database lacks it: the extension where the server has it and the role may create it, else the plain SQL
-- that the pgmq package carries, filled in at the marker below. Applied after the ledger, before any migration.

do $mainstay$
begin
    if exists (
        select
          from pg_catalog.pg_proc p
          join pg_catalog.pg_namespace n on n.oid = p.pronamespace
         where n.nspname = 'pgmq' and p.proname = 'send'
    ) then
        return;
    end if;

    if exists (select from pg_catalog.pg_available_extensions where name = 'pgmq') then
        begin
            create extension pgmq;
            insert into mainstay.pgmq_install (method, version)
            select 'extension', extversion from pg_catalog.pg_extension where extname = 'pgmq'
            on conflict (only_row) do update
               set method = excluded.method, version = excluded.version, installed_at = now();
            return;
        exception when others then
            raise notice 'the extension pgmq could not be created (%), installing its SQL instead', sqlerrm;
        end;
    end if;

    execute $mainstay_pgmq$
<install_sql>
$mainstay_pgmq$;
    insert into mainstay.pgmq_install (method, version)
    values ('sql', '<version>')
    on conflict (only_row) do update
       set method = excluded.method, version = excluded.version, installed_at = now();
end
$mainstay$;
