-- What a transaction changes in tables that are not ours.

-- name: number_transaction
-- The number of this transaction, which it has from now on.
select pg_current_xact_id()::text::bigint;

-- name: make_read_only
-- Let nothing be written from now on.
set transaction read only;

-- name: count_changes
-- How many rows this transaction, and what this connection did before and has not told yet, have inserted, updated and deleted, by table.
select s.relid::bigint, s.schemaname || '.' || s.relname, s.n_tup_ins, s.n_tup_upd, s.n_tup_del
from pg_stat_xact_user_tables as s
where s.schemaname not in ('commandbus', 'eventsource', 'pgmq') and s.n_tup_ins + s.n_tup_upd + s.n_tup_del > 0;

-- name: list_written
-- Rows of a table that this transaction has written.
select eventsource.written_rows(%(table_no)s::bigint::oid::regclass, %(number)s, %(largest)s, %(limit)s);

-- name: list_before
-- What is there under the primary keys of rows; null where nothing is, and null if there is no such table.
select (
    select eventsource.rows_there(c.oid::regclass, %(rows)s::jsonb) from pg_class as c
    where c.oid = %(table_no)s::bigint::oid
);
