-- What the database file itself is told and asked.

-- name: configure_writer
-- One writer and many readers at a time; a commit is on the disk when it returns; what is erased is overwritten.
pragma journal_mode = wal;
pragma synchronous = full;
pragma secure_delete = on;

-- name: configure_passing_writer
-- The same for a file that is deleted with its log: nobody waits for the disk.
pragma journal_mode = wal;
pragma synchronous = off;

-- name: configure_reader
-- A reader never writes, whatever it is asked.
pragma query_only = on;

-- name: find_schema
-- Whether any part of mainstay is in this file.
select 1 from sqlite_schema where name = 'mainstay_schema';

-- name: schema_version
-- The version of one part; no row if it is not there.
select version from mainstay_schema where part = ?;

-- name: begin
-- A transaction that writes; it waits for the one that does now.
begin immediate;

-- name: main_file
-- Which file a connection is on.
select file from pragma_database_list where name = 'main';

-- name: set_mark
-- What a call inside the caller's transaction can go back to.
savepoint mainstay_call;

-- name: forget_mark
-- The call is done.
release mainstay_call;

-- name: return_to_mark
-- The call failed; the caller's transaction is as it was before.
rollback to mainstay_call;
