-- breaking: no
-- Breakers: when commands of a type fail alike, what fails so waits until one of them gets through. See commandbus.hold_failures for how
-- they open, and commandbus.work_breakers for how they close.

-- What was set for command types. The row of the type '' is the lock under which a domain's breakers change.
create table commandbus.breaker_rule (
    domain        text    not null,
    command_type  text    not null,
    failures      integer constraint breaker_rule_failures_positive check (failures > 0),
    within        double precision constraint breaker_rule_within_positive check (within > 0),
    probe_after   double precision constraint breaker_rule_probe_after_positive check (probe_after > 0),
    drip          double precision constraint breaker_rule_drip_positive check (drip > 0),
    constraint breaker_rule_pkey primary key (domain, command_type),
    constraint breaker_rule_whole check (command_type = '' or num_nulls(within, probe_after, drip) = 0)
);

comment on column commandbus.breaker_rule.failures is 'Null: removed, and the row stays until what its breakers held is let go.';

create table commandbus.breaker (
    domain           text        not null,
    command_type     text        not null,
    fingerprint      text        not null,
    state            text        not null constraint breaker_state_known check (state in ('OPEN', 'CLOSING')),
    since            timestamptz not null,
    changed_at       timestamptz not null,
    next_at          timestamptz not null,
    probe_id         uuid,
    failed_probes    integer     not null default 0,
    is_forced        boolean     not null default false,
    example_message  text,
    constraint breaker_pkey primary key (domain, command_type, fingerprint),
    constraint breaker_probes_while_open check (probe_id is null or state = 'OPEN')
);

comment on column commandbus.breaker.next_at is 'When the next probe may go, or while it closes the next of the drip.';
comment on column commandbus.breaker.probe_id is 'Let go to see whether it works again. Counts while it is ready or in progress, so nobody has to take it back.';
comment on column commandbus.breaker.is_forced is 'An operator closed it: failures count as attempts again.';

-- Failed attempts of types that have breakers, as far back as their rules look.
create table commandbus.breaker_failure (
    domain        text        not null,
    command_type  text        not null,
    fingerprint   text        not null,
    at            timestamptz not null,
    command_id    uuid        not null
) with (autovacuum_vacuum_scale_factor = 0.02);

create index breaker_failure_at on commandbus.breaker_failure (domain, command_type, fingerprint, at);

-- What happened to rules and breakers, and who did it. Rows are only ever added.
create table commandbus.breaker_event (
    event_id      bigint generated always as identity constraint breaker_event_pkey primary key,
    at            timestamptz not null default clock_timestamp(),
    domain        text        not null,
    command_type  text        not null,
    fingerprint   text,
    event_type    text        not null,
    operator      text,
    reason        text,
    details       jsonb       not null default '{}'
);
