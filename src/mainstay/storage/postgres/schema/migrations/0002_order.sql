-- breaking: no
-- Order per key: of the commands that share a key, one at a time is ready, received, waiting for its retry or for an operator. The
-- others wait here. See commandbus.promote_keys. And unique keys, of which one command at a time exists.

-- Commands that wait for their turn, by number: the order in which they were sent.
create table commandbus.keyed (
    domain      text    not null,
    key         text    not null,
    subject_no  bigint  not null,
    command_id  uuid    not null,
    constraint keyed_pkey primary key (domain, key, subject_no)
) with (autovacuum_vacuum_scale_factor = 0.02);

-- Whose turn it is. A row stays until its command ends, or until an operator lets the key go on without it.
create table commandbus.key_head (
    key         text    not null,
    domain      text    not null,
    subject_no  bigint  not null,
    command_id  uuid    not null,
    since       timestamptz not null default clock_timestamp(),
    constraint key_head_pkey primary key (key, domain)
) with (autovacuum_vacuum_scale_factor = 0.02);

-- Who took a unique key last. A row stays when its command ends, to be taken over by the next command of the key, or removed by prune: so
-- completing a command does not write here. See commandbus.claim_unique.
create table commandbus.unique_claim (
    unique_key  text         not null,
    domain      text         not null,
    command_id  uuid         not null,
    held_until  timestamptz,
    constraint unique_claim_pkey primary key (unique_key, domain)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

comment on column commandbus.unique_claim.held_until is 'Until then it is held though its command is COMPLETED.';

-- Keys worth a look: something was sent, came back or ended. Rows are only added and removed, so no sender waits for another.
create table commandbus.key_hint (
    domain   text    not null,
    hint_no  bigint  generated always as identity,
    key      text    not null,
    constraint key_hint_pkey primary key (domain, hint_no)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);
