-- name: load
-- The snapshot of a stream.
select version, event_id, schema, state from mainstay_snapshot where category = ? and tenant_id = ? and id = ?;

-- name: save
-- Keep a snapshot instead of an older one, or of one that this code cannot read.
insert into mainstay_snapshot (category, tenant_id, id, version, event_id, schema, state) values (?, ?, ?, ?, ?, ?, ?)
on conflict (category, tenant_id, id) do update
set version = excluded.version, event_id = excluded.event_id, schema = excluded.schema, state = excluded.state
where version <= excluded.version or schema <> excluded.schema;

-- name: delete
-- Forget the snapshot of a stream.
delete from mainstay_snapshot where category = ? and tenant_id = ? and id = ?;
