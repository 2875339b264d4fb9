-- breaking: no
-- Pruned commands: payload, headers, error text and audit are gone; id, type, outcome and result stay. See commandbus.prune.

alter table commandbus.command add column pruned_at timestamptz;

alter table commandbus.batch add column pruned_at timestamptz, add column forgotten_at timestamptz;

comment on column commandbus.batch.pruned_at is 'Custom data and what its completion command held were cleared then.';
comment on column commandbus.batch.forgotten_at is 'Since then its commands are deleted: they recount no more.';
comment on column commandbus.command.pruned_at is 'Payload, headers and error text were cleared then; the audit went with them or later.';

-- Who prunes, until when, and when the next run begins: one row, so that of all who offer to prune one does at a time.
create table commandbus.pruning (
    only_one  boolean      primary key default true constraint pruning_one_row check (only_one),
    holder    text         not null,
    until     timestamptz  not null,
    next_at   timestamptz  not null
);
