-- What the schema runner remembers about this database. Applied once, before any migration, under the runner's lock.
-- Whatever must change here later comes as a migration.

do $mainstay$
begin
    -- "if not exists" would ask for the right to create schemas even where an administrator has made this one already.
    if not exists (select from pg_catalog.pg_namespace where nspname = 'mainstay') then
        create schema mainstay;
    end if;
end
$mainstay$;

create table mainstay.migration (
    number     integer     primary key check (number > 0),
    name       text        not null,
    hash       text        not null,
    breaking   boolean     not null,
    applied_at timestamptz not null default now()
);
comment on table mainstay.migration is 'Migrations that this database has. Append-only; hash is the SHA-256 of the file.';
comment on column mainstay.migration.breaking is 'Code that does not know this migration must not run on it.';

create table mainstay.function_file (
    path       text        primary key,
    hash       text        not null,
    release    text        not null,
    applied_at timestamptz not null default now()
);
comment on table mainstay.function_file is 'Function files as they were last applied; hash is the SHA-256 of the file.';
comment on column mainstay.function_file.release is 'The release of mainstay that applied it; an older one leaves it alone.';

create table mainstay.pgmq_install (
    only_row     boolean     primary key default true check (only_row),
    method       text        not null check (method in ('extension', 'sql')),
    version      text        not null,
    installed_at timestamptz not null default now()
);
comment on table mainstay.pgmq_install is 'How mainstay installed PGMQ; empty if PGMQ was there before.';
