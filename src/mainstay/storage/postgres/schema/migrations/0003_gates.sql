-- breaking: no
-- What holds commands up: pauses, limits, and the commands that wait for them.
--
-- A gate stands before a command type, or, under the type '', before a whole domain; that row is also the lock under which
-- commands pass any gate of the domain. Domains without a row are not looked at further.

create table commandbus.gate (
    domain           text        not null,
    command_type     text        not null,
    paused_at        timestamptz,
    paused_by        text,
    pause_reason     text,
    max_running      integer     constraint gate_max_running_positive check (max_running > 0),
    per              text,
    max_running_per  integer     constraint gate_max_running_per_positive check (max_running_per > 0),
    rate             integer     constraint gate_rate_positive check (rate > 0),
    per_seconds      double precision constraint gate_per_seconds_long check (per_seconds >= 1),
    burst            integer     constraint gate_burst_within_rate check (burst between 1 and rate),
    constraint gate_pkey primary key (domain, command_type),
    constraint gate_per_whole check ((per is null) = (max_running_per is null)),
    constraint gate_rate_whole check ((rate is null) = (per_seconds is null) and (rate is null) = (burst is null))
);

comment on column commandbus.gate.command_type is 'Empty: the whole domain, which can be paused and has no limits.';
comment on column commandbus.gate.per is 'max_running_per counts by this field of the payload (a.b for one inside another), or header:NAME.';

-- Who runs under a limit. A row counts only while its command is IN_PROGRESS under this very lease, so nobody who finishes a command
-- touches this table; rows that do not count are removed by the next receive that looks.
create table commandbus.running_slot (
    domain        text    not null,
    command_type  text    not null,
    limit_key     text    not null,
    command_id    uuid    not null,
    lease_no      bigint  not null,
    constraint running_slot_pkey primary key (domain, command_type, limit_key, command_id)
) with (autovacuum_vacuum_scale_factor = 0.02);

-- Starts of commands with a rate limit, as far back as the limit looks.
create table commandbus.limit_grant (
    domain        text         not null,
    command_type  text         not null,
    at            timestamptz  not null,
    starts        integer      not null
) with (autovacuum_vacuum_scale_factor = 0.02);

create index limit_grant_at on commandbus.limit_grant (domain, command_type, at);

-- Commands that were due and could not start. They are PENDING and have no message; they start in the order in which they stood in the
-- queue, and get their old place (the message id) again.
create table commandbus.parked (
    command_id    uuid         not null,
    domain        text         not null,
    command_type  text         not null,
    limit_key     text         not null default '',
    place         bigint,
    held_by       text,
    reason        text         not null constraint parked_reason_known check (reason in ('PAUSE', 'LIMIT', 'BREAKER')),
    since         timestamptz  not null,
    expires_at    timestamptz,
    constraint parked_pkey primary key (command_id, domain),
    constraint parked_by_gate_or_breaker check ((place is null) = (held_by is not null))
) with (autovacuum_vacuum_scale_factor = 0.02);

create index parked_order on commandbus.parked (domain, command_type, limit_key, place) where held_by is null;
create index parked_expiry on commandbus.parked (domain, expires_at) where expires_at is not null;
create index parked_held on commandbus.parked (domain, command_type, held_by, since, command_id) where held_by is not null;

comment on column commandbus.parked.held_by is 'The fingerprint of the breaker that holds it; null: a gate does. Breakers let go who waits longest.';

insert into commandbus.audit_path (event_type, before, after) values
    ('PARKED', 'PENDING', 'PENDING'),
    ('PARKED', 'IN_PROGRESS', 'PENDING'),
    ('RELEASED', 'PENDING', 'PENDING');
