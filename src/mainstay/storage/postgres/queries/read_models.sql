-- Tables of read models. What stands in braces is a quoted name, or a column's definition; the statements about rows are
-- written with SQLAlchemy Core.

-- name: lock_table
-- One at a time makes or changes a table of this name.
select pg_advisory_xact_lock(hashtext('mainstay.read_models'), hashtext(%(table)s));

-- name: exists
-- Whether there is such a table.
select to_regclass(quote_ident(%(table)s)) is not null;

-- name: columns
-- The columns of a table, in order; no row if there is no table.
select a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
       a.attnotnull as not_null, a.atthasdef or a.attidentity <> '' as has_default
from pg_attribute a
where a.attrelid = to_regclass(quote_ident(%(table)s)) and a.attnum > 0 and not a.attisdropped
order by a.attnum;

-- name: indexes
-- The names of a table's indexes.
select c.relname as name
from pg_index i
join pg_class c on c.oid = i.indexrelid
where i.indrelid = to_regclass(quote_ident(%(table)s));

-- name: taken
-- Names that begin so, of whatever they are.
select relname as name from pg_class where starts_with(relname, %(prefix)s);

-- name: has_rows
-- Whether a table has rows.
select exists (select from {table});

-- name: add_column
-- A column that the table lacks.
alter table {table} add column {column};

-- name: create_index
-- An index that the table lacks.
create index {index} on {table} ({columns});

-- name: drop_table
-- Delete a table with its rows.
drop table {table};
