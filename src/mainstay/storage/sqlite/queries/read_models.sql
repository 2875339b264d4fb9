-- Tables of read models. What stands in braces is a quoted name, or a column's definition; the statements about rows are
-- written with SQLAlchemy Core.

-- name: one_moment
-- All statements until `moment_over` see the same rows.
begin deferred;

-- name: moment_over
-- Nothing was written.
rollback;

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

-- name: rename_table
-- Give a table another name.
alter table {table} rename to {name};

-- name: compare
-- How many rows differ, and how.
select (select count(*) from {first} a where not exists (select 1 from {second} b where b.id = a.id)) as only_first,
       (select count(*) from {second} b where not exists (select 1 from {first} a where a.id = b.id)) as only_second,
       (select count(*) from {first} a join {second} b on a.id = b.id where {differs}) as different,
       (select count(*) from {first}) as rows_first, (select count(*) from {second}) as rows_second;

-- name: sample
-- Ids of rows that differ, the smallest first.
select id from (
    select a.id as id from {first} a left join {second} b on a.id = b.id where b.id is null or {differs}
    union all
    select b.id as id from {second} b where not exists (select 1 from {first} a where a.id = b.id)
) order by 1 limit :limit;
