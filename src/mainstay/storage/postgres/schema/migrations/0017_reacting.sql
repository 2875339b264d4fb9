-- breaking: no
-- Processes react to events, remember their deadlines, and in whose name they were started: whatever moves one is done in that name.

alter table commandbus.process
    add column tenant_id text,
    add column actor_id text,
    add column deadlines jsonb not null default '{}',
    drop constraint process_status_known,
    add constraint process_status_known check (status in (
        'WAITING_FOR_REPLY', 'WAITING_FOR_EVENT', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'CANCELED', 'FAILED'));

comment on column commandbus.process.tenant_id is 'Whose it is: it is moved in this scope, and its steps are sent in it.';
comment on column commandbus.process.actor_id is 'Who wanted it.';
comment on column commandbus.process.deadlines is 'Those that are set, by name, each with the id of the command that tells of it.';

-- The events that a process was told of, so that it is told of none again. Rows are only added.
create table commandbus.process_event (
    process_id  uuid        not null,
    event_id    uuid        not null,
    event_type  text        not null,
    position    bigint      not null,
    was_taken   boolean     not null,
    taken_at    timestamptz not null,
    constraint process_event_pkey primary key (process_id, event_id)
);

comment on column commandbus.process_event.was_taken is 'Whether it moved the process; one that had ended, or was being undone, it did not.';
