-- breaking: no
-- Processes: several commands that belong together. A row each, a row for each step, and an audit trail.

create table commandbus.process (
    process_id      uuid        not null constraint process_pkey primary key,
    domain          text        not null,
    reply_domain    text        not null,
    process_type    text        not null,
    status          text        not null
        constraint process_status_known check (status in (
            'WAITING_FOR_REPLY', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'CANCELED', 'FAILED')),
    state           jsonb       not null,
    correlation_id  uuid        not null,
    batch_id        uuid,
    ends_as         text,
    error_code      text,
    error_message   text,
    created_at      timestamptz not null default clock_timestamp(),
    updated_at      timestamptz not null default clock_timestamp(),
    completed_at    timestamptz,
    pruned_at       timestamptz
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);

create index process_created on commandbus.process (created_at);
create index process_batch on commandbus.process (batch_id) where batch_id is not null;

comment on column commandbus.process.reply_domain is 'Where replies, deadlines and cancellations arrive as commands.';
comment on column commandbus.process.pruned_at is 'State, error text and what steps sent and got were cleared then. See commandbus.prune_processes.';
comment on column commandbus.process.ends_as is 'COMPENSATED or CANCELED: what a process that is being undone will be.';

create table commandbus.process_step (
    process_id     uuid        not null,
    step_no        integer     not null,
    name           text        not null,
    undoes         integer,
    domain         text        not null,
    command_type   text        not null,
    command_id     uuid        not null,
    data           jsonb       not null,
    status         text        not null default 'SENT'
        constraint process_step_status_known check (status in ('SENT', 'SUCCESS', 'FAILED', 'CANCELED', 'TIMED_OUT')),
    result         jsonb,
    error_code     text,
    error_message  text,
    sent_at        timestamptz not null,
    replied_at     timestamptz,
    constraint process_step_pkey primary key (process_id, step_no)
) with (fillfactor = 80);

create unique index process_step_command on commandbus.process_step (command_id);

comment on column commandbus.process_step.undoes is 'The step that this one compensates.';

-- What happened to processes, in order. Rows are only ever added.
create table commandbus.process_audit (
    audit_id    bigint generated always as identity,
    process_id  uuid        not null,
    ts          timestamptz not null,
    event_type  text        not null,
    step_no     integer,
    details     jsonb,
    constraint process_audit_pkey primary key (process_id, audit_id)
);
