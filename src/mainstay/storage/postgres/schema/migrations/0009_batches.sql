-- breaking: no
-- Batches that are sent in a stream, and batches of batches.

alter table commandbus.batch add column sealed boolean not null default true, add column parent_id uuid;

comment on column commandbus.batch.sealed is 'Nothing more is sent into it in a stream; before that it cannot end.';
comment on column commandbus.batch.parent_id is 'A batch of the same domain that does not end before this one.';

create index batch_parent on commandbus.batch (domain, parent_id) where parent_id is not null;
create index batch_open on commandbus.batch (domain) where not sealed;

-- Batches as they are counted now: with the deltas that are not summed up yet.
create view commandbus.counted_batch as
select
    b.batch_id, b.domain, b.name, b.custom_data, b.status, b.created_at, b.started_at, b.completed_at, b.sealed, b.parent_id,
    b.total_count + d.total as total_count, b.completed_count + d.completed as completed_count,
    b.failed_count + d.failed as failed_count, b.canceled_count + d.canceled as canceled_count,
    b.troubleshooting_count + d.troubleshooting as troubleshooting_count
from commandbus.batch as b
cross join lateral (
    select coalesce(sum(x.total), 0)::bigint as total, coalesce(sum(x.completed), 0)::bigint as completed,
           coalesce(sum(x.failed), 0)::bigint as failed, coalesce(sum(x.canceled), 0)::bigint as canceled,
           coalesce(sum(x.troubleshooting), 0)::bigint as troubleshooting
    from commandbus.batch_delta as x where x.domain = b.domain and x.batch_id = b.batch_id
) as d;
