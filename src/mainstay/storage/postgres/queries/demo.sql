-- name: create_ledger
-- A table for effects: one line for each time that a transactional handler ran to its commit.
create schema if not exists mainstay_demo;
create table if not exists mainstay_demo.ledger (
    line_no     bigint      generated always as identity primary key,
    domain      text        not null,
    command_id  uuid        not null,
    attempt     integer     not null,
    written_at  timestamptz not null default clock_timestamp()
);
create index if not exists ledger_command on mainstay_demo.ledger (command_id, domain);

-- name: write_ledger
-- Write a line; nothing but the transaction around it keeps a command from having two.
insert into mainstay_demo.ledger (domain, command_id, attempt) values (%(domain)s, %(command_id)s, %(attempt)s);

-- name: now
-- The time of the database.
select clock_timestamp();

-- name: version
-- The version of the server.
select current_setting('server_version');

-- name: states
-- How many commands sent since then stand where, and how many of those that wait do so for their time.
select status, due_at is not null as deferred, count(*) as commands
from commandbus.command
where domain = %(domain)s and created_at >= %(since)s and not (data ? 'probe')
group by 1, 2;

-- name: ends
-- Where commands stand, how often they were tried, and what was last said of them.
select command_id, status, attempts, error_type, error_code
from commandbus.command
where domain = %(domain)s and command_id = any (%(command_ids)s);

-- name: events
-- How often each thing happened to commands sent since then.
select a.event_type, count(*) as events
from commandbus.command as c
join commandbus.audit as a on a.subject_no = c.subject_no
where c.domain = %(domain)s and c.created_at >= %(since)s and not (c.data ? 'probe')
group by a.event_type;

-- name: taken_over
-- What became of the commands whose worker was killed: how many there were, and how many started again elsewhere.
select count(*) as expired,
       count(*) filter (where exists (
           select from commandbus.audit as again
           where again.subject_no = a.subject_no
             and again.event_type = 'RECEIVED' and again.audit_id > a.audit_id)) as started_again
from commandbus.command as c
join commandbus.audit as a on a.subject_no = c.subject_no
where c.domain = %(domain)s and c.created_at >= %(since)s and a.event_type = 'LEASE_EXPIRED';

-- name: effects
-- Effects beside completions of a transactional command type: lines, commands with two, completed without, written without completion.
select
    coalesce(sum(c.lines), 0)::bigint as lines,
    count(*) filter (where c.lines > 1) as doubled,
    count(*) filter (where c.status = 'COMPLETED' and not c.by_hand and c.lines is null) as missing,
    count(*) filter (where c.status <> 'COMPLETED' and c.lines > 0) as without_completion,
    count(*) filter (where c.status = 'COMPLETED' and not c.by_hand) as completed
from (
    select
        command.status,
        (select nullif(count(*), 0) from mainstay_demo.ledger
         where ledger.command_id = command.command_id and ledger.domain = command.domain) as lines,
        exists (
            select from commandbus.audit as a
            where a.subject_no = command.subject_no and a.event_type = 'OPERATOR_COMPLETE') as by_hand
    from commandbus.command
    where command.domain = %(domain)s and command.command_type = %(command_type)s and command.created_at >= %(since)s
    offset 0
) as c;
