-- Single rows of commands and of the audit trail, for code that keeps its own bus on these tables.

-- name: save
-- Store a command unless its id is known; whether it was stored.
with saved as (
    insert into commandbus.command as c (
        domain, command_id, command_type, status, attempts, max_attempts, msg_id, correlation_id, reply_to,
        error_type, error_code, error_message, created_at, updated_at, data, result, due_at)
    values (
        %(domain)s, %(command_id)s, %(command_type)s, %(status)s, %(attempts)s, %(max_attempts)s, %(msg_id)s,
        %(correlation_id)s, %(reply_to)s, %(last_error_type)s, %(last_error_code)s, %(last_error_msg)s,
        %(created_at)s, %(updated_at)s, %(data)s::text::jsonb, %(result)s::text::jsonb, %(due_at)s)
    on conflict do nothing
    returning c as row
), listed as (
    insert into commandbus.troubleshooting
    select t.* from saved as c cross join lateral commandbus.as_trouble(c.row) as t
    where (c.row).status = 'IN_TROUBLESHOOTING_QUEUE'
)
select exists (select from saved);

-- name: get
-- One command.
select domain, command_id, command_type, status, attempts, max_attempts, msg_id, correlation_id, reply_to,
       error_type as last_error_type, error_code as last_error_code, error_message as last_error_msg,
       created_at, updated_at, batch_id, data, result, due_at
from commandbus.command
where command_id = %(command_id)s and domain = %(domain)s;

-- name: update_status
-- Set the status of a command that has not ended, counts in no batch and has no key, and keep the side tables in step; whether it was set.
with changed as (
    update commandbus.command as c
    set status = %(status)s, updated_at = clock_timestamp(),
        msg_id = case when %(status)s in ('PENDING', 'IN_PROGRESS') then msg_id end,
        due_at = case when %(status)s = 'PENDING' then due_at end
    where command_id = %(command_id)s and domain = %(domain)s and batch_id is null and key is null
      and (status = %(status)s or status not in ('COMPLETED', 'FAILED', 'CANCELED'))
    returning c as row
), undeferred as (
    delete from commandbus.deferred as d using changed as c
    where d.command_id = (c.row).command_id and d.domain = (c.row).domain and (c.row).status <> 'PENDING'
), unlisted as (
    delete from commandbus.troubleshooting as t using changed as c
    where t.command_id = (c.row).command_id and t.domain = (c.row).domain and (c.row).status <> 'IN_TROUBLESHOOTING_QUEUE'
), listed as (
    insert into commandbus.troubleshooting
    select t.* from changed as c cross join lateral commandbus.as_trouble(c.row) as t
    where (c.row).status = 'IN_TROUBLESHOOTING_QUEUE'
    on conflict do nothing
)
select exists (select from changed);

-- name: update_msg_id
-- Note which message stands for a command; whether there is such a command.
with changed as (
    update commandbus.command set msg_id = %(msg_id)s, updated_at = clock_timestamp()
    where command_id = %(command_id)s and domain = %(domain)s
    returning command_id
)
select exists (select from changed);

-- name: log
-- Add to the audit trail of a command, in every domain that knows its id unless one is named; in how many.
with logged as (
    insert into commandbus.audit (subject_no, event_type, details)
    select subject_no, %(event_type)s, %(details)s::text::jsonb
    from commandbus.command
    where command_id = %(command_id)s and (%(domain)s::text is null or domain = %(domain)s)
    returning audit_id
)
select count(*) from logged;

-- name: events
-- The audit trail of a command, in order.
select audit_id, domain, command_id, event_type, ts, details_json as details
from commandbus.command_bus_audit
where command_id = %(command_id)s and (%(domain)s::text is null or domain = %(domain)s)
order by audit_id;
