-- breaking: no
-- Commands that are sent again and again. See commandbus.fire_schedule.

create table commandbus.schedule (
    name             text        not null constraint schedule_pkey primary key,
    domain           text        not null,
    command          jsonb       not null,
    cron             text,
    every            interval,
    timezone         text        not null,
    not_before       timestamptz,
    catch_up         text        not null constraint schedule_catch_up_known check (catch_up in ('SKIP', 'ONE', 'ALL')),
    catch_up_limit   integer     not null constraint schedule_catch_up_limit_positive check (catch_up_limit > 0),
    is_paused        boolean     not null default false,
    next_due_at      timestamptz,
    counts_from      timestamptz not null,
    last_due_at      timestamptz,
    last_command_id  uuid,
    sent_count       bigint      not null default 0,
    skipped_count    bigint      not null default 0,
    last_error       text,
    created_at       timestamptz not null default clock_timestamp(),
    updated_at       timestamptz not null default clock_timestamp(),
    constraint schedule_one_rule check ((cron is null) <> (every is null))
);

create index schedule_due on commandbus.schedule (domain, next_due_at) where not is_paused;

comment on column commandbus.schedule.command is 'As commandbus.send takes it, without ids.';
