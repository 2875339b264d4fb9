-- name: commit_group
-- Commit what was decided on for many commands; what became of each, and which of them somebody waits for.
select fates, awaited
from commandbus.commit_group(
    %(domain)s, %(outcomes)s::jsonb, %(sends)s::boolean,
    %(categories)s::text[], %(tenants)s::text[], %(ids)s::text[], %(expected)s::integer[], %(counts)s::integer[],
    %(places)s::integer[], %(versions)s::integer[], %(event_ids)s::uuid[], %(kind_categories)s::text[], %(kind_types)s::text[],
    %(kinds)s::integer[], %(payloads)s::json[], %(occurred_at)s::timestamptz[], %(event_versions)s::integer[],
    %(correlation_ids)s::uuid[], %(causation_ids)s::uuid[], %(actor_ids)s::text[], %(metadata)s::text[], %(tags)s::text[]);

-- name: commit
-- End the transaction in which streams were held.
commit;
