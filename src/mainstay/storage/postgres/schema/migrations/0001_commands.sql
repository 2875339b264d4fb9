-- breaking: yes
-- What commands leave in the database. PGMQ's tables hold the messages that are ready; everything else is here.
--
-- Every column that changes during a command's life stays out of every index, so that receiving and completing are
-- HOT updates: the index entries of a command are written once, when it is sent. Half of each page stays free, because
-- all commands on one are often received in one transaction. Lists by status come from small
-- side tables (deferred, troubleshooting) instead of an index on status.

create schema if not exists commandbus;

-- Numbers commands and batches for the audit, whose index then grows at its end instead of all over: ids are random.
create sequence commandbus.subject_no;

-- What holds for every command. A function, because PostgreSQL reads and plans the text of a check anew in every INSERT, and calls a function
-- of PL/pgSQL as it is kept: three checks written out were a tenth of what a command that is sent alone cost the server.
create function commandbus.is_sound(p_status text, p_max_attempts integer, p_priority smallint)
returns boolean
language plpgsql immutable parallel safe
as $$
begin
    return p_status in ('PENDING', 'IN_PROGRESS', 'COMPLETED', 'FAILED', 'CANCELED', 'IN_TROUBLESHOOTING_QUEUE')
        and p_max_attempts > 0
        and p_priority between -9 and 9;
end;
$$;

create table commandbus.command (
    command_id      uuid        not null,
    domain          text        not null,
    subject_no      bigint      not null default nextval('commandbus.subject_no'),
    command_type    text        not null,
    status          text        not null default 'PENDING',
    attempts        integer     not null default 0,
    max_attempts    integer     not null default 3,
    lease_no        bigint      not null default 0,
    msg_id          bigint,
    correlation_id  uuid,
    batch_id        uuid,
    reply_to        text,
    reply_msg_id    bigint,
    error_type      text,
    error_code      text,
    error_message   text,
    created_at      timestamptz not null default clock_timestamp(),
    updated_at      timestamptz not null default clock_timestamp(),
    due_at          timestamptz,
    data            jsonb,
    headers         jsonb,
    result          jsonb,
    progress        jsonb,
    priority        smallint    not null default 0,
    key             text,
    expires_at      timestamptz,
    cancel_request  jsonb,
    unique_key      text,
    constraint command_pkey primary key (command_id, domain),
    constraint command_sound check (commandbus.is_sound(status, max_attempts, priority))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

create index command_created on commandbus.command (created_at);
create index command_batch on commandbus.command (batch_id, domain) where batch_id is not null;

comment on column commandbus.command.lease_no is 'Grows with every receive, give-back and operator action; a completion must name the newest.';
comment on column commandbus.command.cancel_request is 'Somebody asked, while it was in progress, to cancel it: {reason}.';
comment on column commandbus.command.unique_key is 'While it has not ended, its claim to this stands in unique_claim.';
comment on column commandbus.command.msg_id is 'The message in pgmq.q_<domain>__commands, while there is one.';

-- Commands that wait for their time: sent with a delay, or due for another attempt.
create table commandbus.deferred (
    command_id  uuid        not null,
    domain      text        not null,
    due_at      timestamptz not null,
    constraint deferred_pkey primary key (command_id, domain)
) with (autovacuum_vacuum_scale_factor = 0.02);

create index deferred_due on commandbus.deferred (domain, due_at);

-- Commands that wait for an operator.
create table commandbus.troubleshooting (
    command_id    uuid        not null,
    domain        text        not null,
    command_type  text        not null,
    since         timestamptz not null,
    error_type    text,
    error_code    text,
    fingerprint   text        not null,
    group_id      text        not null,
    constraint troubleshooting_pkey primary key (command_id, domain)
);

create index troubleshooting_since on commandbus.troubleshooting (domain, since);
create index troubleshooting_group on commandbus.troubleshooting (group_id, since);

comment on column commandbus.troubleshooting.fingerprint is 'What the error message says apart from whom it is about; see commandbus.fingerprint.';
comment on column commandbus.troubleshooting.group_id is 'A hash of domain, type, error type, error code and fingerprint.';

-- What happened, in order. Rows are only ever added.
create table commandbus.audit (
    audit_id    bigint generated always as identity,
    subject_no  bigint      not null,
    ts          timestamptz not null default clock_timestamp(),
    event_type  text        not null,
    details     jsonb,
    constraint audit_pkey primary key (subject_no, audit_id)
) with (autovacuum_vacuum_insert_scale_factor = 0.1);

comment on column commandbus.audit.subject_no is 'The command, or for BATCH_STARTED and BATCH_COMPLETED the batch.';

create table commandbus.batch (
    batch_id               uuid        not null,
    domain                 text        not null,
    subject_no             bigint      not null default nextval('commandbus.subject_no'),
    name                   text,
    custom_data            jsonb,
    status                 text        not null default 'PENDING'
        constraint batch_status_known check (status in ('PENDING', 'IN_PROGRESS', 'COMPLETED', 'COMPLETED_WITH_FAILURES')),
    total_count            bigint      not null default 0,
    completed_count        bigint      not null default 0,
    failed_count           bigint      not null default 0,
    canceled_count         bigint      not null default 0,
    troubleshooting_count  bigint      not null default 0,
    on_complete            jsonb,
    created_at             timestamptz not null default clock_timestamp(),
    started_at             timestamptz,
    completed_at           timestamptz,
    constraint batch_pkey primary key (batch_id, domain)
) with (fillfactor = 60);

create index batch_created on commandbus.batch (domain, created_at);
create index batch_end on commandbus.batch (((on_complete ->> 'command_id')::uuid)) where on_complete is not null;
create index batch_unstarted on commandbus.batch (domain) where started_at is null;

-- Changes to a batch's counts, added in the transaction that made them and summed on reading. A counter row instead
-- would let one open transaction that sends into a batch stall every worker that completes something in it.
create table commandbus.batch_delta (
    domain           text    not null,
    batch_id         uuid    not null,
    total            bigint  not null default 0,
    completed        bigint  not null default 0,
    failed           bigint  not null default 0,
    canceled         bigint  not null default 0,
    troubleshooting  bigint  not null default 0
) with (autovacuum_vacuum_scale_factor = 0.02);

create index batch_delta_batch on commandbus.batch_delta (domain, batch_id);

-- Where in a queue messages may be, in message ids: outside of it nothing is and nothing will be. The newest row of a queue's file counts; it
-- is found from the index's end, so that no older version is walked over. See commandbus.narrow.
create table commandbus.live_range (
    domain   text            not null,
    file     oid             not null,
    no       bigint          generated always as identity,
    ranges   int8multirange  not null,
    settled  bigint          not null,
    seen     bigint          not null,
    senders  text[]          not null,
    tried    bigint          not null,
    constraint live_range_pkey primary key (domain, file, no)
) with (autovacuum_vacuum_scale_factor = 0.02);

comment on column commandbus.live_range.file is 'The file of the queue''s table: what is known of it ends with it, be it dropped, truncated or restored.';
comment on column commandbus.live_range.settled is 'Messages with numbers up to this one are all committed, or never will be.';
comment on column commandbus.live_range.seen is 'A later number: it will be settled when the senders that were under way then have ended.';

-- A message in the hand of receive: leased, its command not yet looked at. command_id is null if none can be read from it.
create type commandbus.leased_message as (
    msg_id      bigint,
    command_id  uuid,
    message     jsonb,
    headers     jsonb,
    is_reread   boolean
);

-- Workers that sleep and want to be woken. Worth nothing after a crash, hence unlogged.
create unlogged table commandbus.sleeper (
    worker  text        not null constraint sleeper_pkey primary key,
    domain  text        not null,
    until   timestamptz not null
);

create index sleeper_domain on commandbus.sleeper (domain, until);

-- Which audit event may follow in which status, and the status after it. mainstay.commands.lifecycle.AUDIT_PATH says the same.
create table commandbus.audit_path (
    event_type  text not null,
    before      text not null,
    after       text not null,
    constraint audit_path_pkey primary key (event_type, before)
);

insert into commandbus.audit_path (event_type, before, after) values
    ('SENT', 'NONE', 'PENDING'),
    ('RECEIVED', 'PENDING', 'IN_PROGRESS'),
    ('CANCELED', 'PENDING', 'CANCELED'),
    ('CANCELED', 'IN_TROUBLESHOOTING_QUEUE', 'CANCELED'),
    ('CANCEL_REQUESTED', 'IN_PROGRESS', 'IN_PROGRESS'),
    ('EXPIRED', 'PENDING', 'CANCELED'),
    ('KEY_RELEASED', 'PENDING', 'PENDING'),
    ('KEY_RELEASED', 'IN_TROUBLESHOOTING_QUEUE', 'IN_TROUBLESHOOTING_QUEUE'),
    ('MOVED_TO_TSQ', 'PENDING', 'IN_TROUBLESHOOTING_QUEUE'),
    ('MOVED_TO_TSQ', 'IN_PROGRESS', 'IN_TROUBLESHOOTING_QUEUE'),
    ('LEASE_EXPIRED', 'IN_PROGRESS', 'PENDING'),
    ('GIVEN_BACK', 'IN_PROGRESS', 'PENDING'),
    ('COMPLETED', 'IN_PROGRESS', 'COMPLETED'),
    ('FAILED', 'IN_PROGRESS', 'IN_PROGRESS'),
    ('RETRY_SCHEDULED', 'IN_PROGRESS', 'PENDING'),
    ('RETRY_EXHAUSTED', 'IN_PROGRESS', 'IN_PROGRESS'),
    ('RETRY_EXHAUSTED', 'PENDING', 'PENDING'),
    ('BUSINESS_RULE_FAILED', 'IN_PROGRESS', 'FAILED'),
    ('OPERATOR_RETRY', 'IN_TROUBLESHOOTING_QUEUE', 'PENDING'),
    ('OPERATOR_CANCEL', 'IN_TROUBLESHOOTING_QUEUE', 'CANCELED'),
    ('OPERATOR_COMPLETE', 'IN_TROUBLESHOOTING_QUEUE', 'COMPLETED');

-- The names under which the database pages of `commandbus` know these tables.
create view commandbus.command_bus_command as
select
    domain, command_id, command_type, status, attempts, max_attempts, msg_id, correlation_id,
    reply_to as reply_queue, error_type as last_error_type, error_code as last_error_code,
    error_message as last_error_msg, created_at, updated_at, batch_id
from commandbus.command;

create view commandbus.command_bus_audit as
select a.audit_id, c.domain, c.command_id, a.event_type, a.ts, a.details as details_json
from commandbus.command as c
join commandbus.audit as a on a.subject_no = c.subject_no;
