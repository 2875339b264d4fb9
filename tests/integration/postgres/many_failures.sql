-- 10,000 commands that wait for an operator: 25 kinds of failure in five domains, a batch of all those of one domain.
insert into commandbus.batch (batch_id, domain, name, status, total_count, troubleshooting_count, started_at)
values ('00000000-0000-4000-8000-000000000001', 'domain1', 'supplies', 'IN_PROGRESS', 2000, 2000, now());

insert into commandbus.command (
    batch_id, command_id, domain, command_type, correlation_id, created_at, updated_at, data, status, attempts, lease_no,
    error_type, error_code, error_message)
select
    case when n % 5 = 1 then '00000000-0000-4000-8000-000000000001'::uuid end,
    gen_random_uuid(), 'domain' || n % 5, 'Type' || n % 3, gen_random_uuid(), now() - n * interval '1 second',
    now() - n * interval '1 second', jsonb_build_object('n', n), 'IN_TROUBLESHOOTING_QUEUE', 3, 3,
    'PERMANENT', 'CODE' || n % 5, 'the supplier ' || n || ' did not answer'
from generate_series(1, 10000) as n;

insert into commandbus.troubleshooting
select f.*
from commandbus.command as c
cross join lateral commandbus.as_trouble(c) as f
where c.status = 'IN_TROUBLESHOOTING_QUEUE' and c.domain <> 'shop';

insert into commandbus.audit (subject_no, event_type, ts)
select c.subject_no, event.type, c.created_at
from commandbus.command as c
cross join (values ('SENT'), ('RECEIVED'), ('FAILED'), ('MOVED_TO_TSQ')) as event(type)
where c.status = 'IN_TROUBLESHOOTING_QUEUE' and c.domain <> 'shop';
