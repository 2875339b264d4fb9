-- Tables of read models. What stands in braces is a quoted name, or a column's definition; the statements about rows are
-- written with SQLAlchemy Core.

-- name: exists
-- Whether there is such a table.
select exists (select 1 from sqlite_schema where type = 'table' and name = :table collate nocase);

-- name: columns
-- The columns of a table, in order; no row if there is no table.
select name, upper(type) as type, "notnull" as not_null, dflt_value is not null as has_default
from pragma_table_info(:table) order by cid;

-- name: indexes
-- The names of a table's indexes.
select name from pragma_index_list(:table);

-- name: taken
-- Names that begin so, of whatever they are.
select name from sqlite_schema where substr(name, 1, length(:prefix)) = :prefix;

-- name: has_rows
-- Whether a table has rows.
select exists (select 1 from {table});

-- name: add_column
-- A column that the table lacks.
alter table {table} add column {column};

-- name: create_index
-- An index that the table lacks.
create index {index} on {table} ({columns});

-- name: drop_table
-- Delete a table with its rows.
drop table {table};
