-- A million events, as append would have left them: 20,000 streams of 50 in ten categories, a stream in two of one of 100 tenants, six types in
-- each category, of which one is of every 10,000th event, and a tag on every 1,000th. A subscription with 64 shards and 100,000 dead letters.
insert into eventsource.stream (category, tenant_id, stream_id, version, created_at)
select 'Category' || n % 10, case when n % 2 = 0 then 'tenant' || n / 2 % 100 else '' end, 'stream ' || n, 50, now()
from generate_series(1, 20000) as n;

insert into eventsource.kind (category, event_type)
select 'Category' || c, t.name from generate_series(0, 9) as c cross join (values ('A'), ('B'), ('C'), ('D'), ('E'), ('Rare')) as t(name);

insert into eventsource.event (
    position, stream_no, version, kind_no, event_version, event_id, recorded_at, occurred_at, payload, tags)
select
    n, s.first + (n - 1) % 20000, (n - 1) / 20000 + 1,
    k.first + 6 * (n % 10) + case when n % 10000 = 5000 then 5 else n / 10 % 5 end,
    1, gen_random_uuid(), now(), now(), '{"amount": 5, "note": "as long as a payload often is, or a little longer"}',
    case when n % 1000 = 0 then array['tag'] end
from generate_series(1, 1000000) as n
cross join (select min(s.stream_no) filter (where s.stream_id = 'stream 1') as first from eventsource.stream as s) as s
cross join (select min(k.kind_no) filter (where k.category = 'Category0' and k.event_type = 'A') as first from eventsource.kind as k) as k;

select setval('eventsource.event_position', 1000000);

insert into eventsource.event_tag (tag, position)
select 'tag', e.position from eventsource.event as e where e.tags is not null and e.tags = array['tag'];

insert into eventsource.subscription (subscription, shards) select 'busy' || n, 64 from generate_series(1, 100) as n on conflict do nothing;

insert into eventsource.shard (subscription, shard, position, event_position)
select 'busy' || n, shard, 5, 0 from generate_series(1, 100) as n cross join generate_series(0, 63) as shard on conflict do nothing;

insert into eventsource.dead_letter (subscription, position, shard, event_id, event_type, key, error, attempts, status)
select 'busy1', n, n % 64, gen_random_uuid(), 'A', 'key ' || n % 5000, 'no', 5, case when n % 2 = 0 then 'WAITING' else 'HANDLED' end
from generate_series(1, 100000) as n;
