-- %(copies)s copies of each completed command of mainstay and of its audit trail, each a second older than the one before.
with copied as materialized (
    select
        c.subject_no as original_no, nextval('commandbus.subject_no') as subject_no, n * interval '1 second' as age,
        c.domain, c.command_type, c.status, c.attempts, c.lease_no, c.correlation_id, c.created_at, c.updated_at, c.data, c.result
    from commandbus.command as c
    cross join generate_series(1, %(copies)s) as n
    where c.status = 'COMPLETED'
), commands as (
    insert into commandbus.command (
        command_id, domain, subject_no, command_type, status, attempts, lease_no, correlation_id, created_at, updated_at, data, result)
    select
        gen_random_uuid(), c.domain, c.subject_no, c.command_type, c.status, c.attempts, c.lease_no, c.correlation_id,
        c.created_at - c.age, c.updated_at - c.age, c.data, c.result
    from copied as c
)
insert into commandbus.audit (subject_no, ts, event_type, details)
select c.subject_no, a.ts - c.age, a.event_type, a.details
from copied as c
join commandbus.audit as a on a.subject_no = c.original_no
order by c.subject_no, a.audit_id;
