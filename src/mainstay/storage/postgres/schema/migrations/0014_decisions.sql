-- breaking: no
-- The decision ledger: for each command whose handler decided on an aggregate, what it had read, and what followed. See commandbus.record_decisions.
--
-- A row is added in the transaction that ends its command, is never changed, and goes when the command is forgotten. The reply is in the command's
-- row; the events are those of the stream after version_read. One index, which grows at its end; the command itself is found by its own.

create table commandbus.decision (
    subject_no       bigint       not null constraint decision_pkey primary key,
    decided_at       timestamptz  not null,
    command_id       uuid         not null,
    version_read     integer      not null constraint decision_version_read_counts check (version_read >= 0),
    events           integer      not null constraint decision_events_count check (events >= 0),
    domain           text         not null,
    category         text         collate "C" not null,
    tenant_id        text         collate "C" not null,
    stream_id        text         collate "C" not null,
    handler          text         not null,
    handler_version  text         not null,
    sent_domains     text[],
    sent_ids         uuid[]
) with (autovacuum_vacuum_insert_scale_factor = 0.1);

comment on column commandbus.decision.version_read is 'Of the stream; the events that followed have the versions after it.';
comment on column commandbus.decision.tenant_id is 'Empty: no tenant.';
comment on column commandbus.decision.sent_ids is 'The next commands; their domains stand in sent_domains.';
