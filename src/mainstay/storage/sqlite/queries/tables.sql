-- What is done to the tables of projections. {table} and the like stand for names, quoted, which no parameter can be.

-- name: create_table
-- Make a table with the columns and constraints of another.
create table {new} {body};

-- name: create_index
-- Make an index.
create {unique} index {index} on {new} {body};

-- name: drop_table
-- Drop a table.
drop table if exists {table};

-- name: rename_table
-- Rename a table.
alter table {table} rename to {new};

-- name: count_rows
-- How many rows a table has.
select count(*) from {table};

-- name: count_differences
-- How many rows one table has that the other has not, or not as often.
select count(*) from (
    select {columns}, count(*) from {table} group by {columns}
    except
    select {columns}, count(*) from {new} group by {columns}
);

-- name: differences
-- Some of them.
select {columns}, count(*) from {table} group by {columns}
except
select {columns}, count(*) from {new} group by {columns}
limit :sample;
