-- name: load
-- The snapshot of a stream.
select version, event_id, schema, state
from eventsource.snapshot
where category = %(category)s and tenant_id = %(tenant)s and stream_id = %(id)s;

-- name: save
-- Keep a snapshot instead of an older one, or of one that this code cannot read.
insert into eventsource.snapshot as s (category, tenant_id, stream_id, version, event_id, schema, state)
values (%(category)s, %(tenant)s, %(id)s, %(version)s, %(event_id)s, %(schema)s, %(state)s)
on conflict (category, tenant_id, stream_id) do update
set version = excluded.version, event_id = excluded.event_id, schema = excluded.schema, state = excluded.state,
    taken_at = excluded.taken_at
where s.version <= excluded.version or s.schema <> excluded.schema
returning true;

-- name: delete
-- Forget the snapshot of a stream.
delete from eventsource.snapshot
where category = %(category)s and tenant_id = %(tenant)s and stream_id = %(id)s
returning true;
