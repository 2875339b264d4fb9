-- %(deferred)s commands that wait for tomorrow and %(completed)s that were completed, as send, receive and complete would have left them.
insert into commandbus.command (
    command_id, domain, command_type, correlation_id, created_at, updated_at, data, status, attempts, lease_no, due_at)
select
    gen_random_uuid(), 'orders', 'CreateOrder', gen_random_uuid(), now() - n * interval '1 second', now() - n * interval '1 second',
    '{"n": 1}', kind.status, kind.attempts, kind.attempts, kind.due_at
from (values
    ('PENDING', 0, now() + interval '1 day', %(deferred)s), ('COMPLETED', 1, null, %(completed)s)
) as kind(status, attempts, due_at, commands)
cross join lateral generate_series(1, kind.commands) as n;

insert into commandbus.deferred (command_id, domain, due_at)
select c.command_id, c.domain, c.due_at from commandbus.command as c where c.due_at is not null;

insert into commandbus.audit (subject_no, event_type, ts)
select c.subject_no, event.type, c.created_at
from commandbus.command as c
cross join lateral (values ('SENT', 'PENDING'), ('SENT', 'COMPLETED'), ('RECEIVED', 'COMPLETED'), ('COMPLETED', 'COMPLETED'))
    as event(type, status)
where event.status = c.status and c.created_at < now();
