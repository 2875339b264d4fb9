-- breaking: no
-- What operators decided: who, on which commands, why, how far it is, and what is needed to take it back.
--
-- A decision is an action with its items, one for each command. The items are written down when the action begins and never grow: a
-- group of failures that gets larger meanwhile does not change what was agreed to. `position` says how far the action is, so that anybody can go on with it after its operator's process died.

create table commandbus.operator_action (
    action_id    uuid        not null constraint operator_action_pkey primary key,
    action       text        not null
        constraint operator_action_known check (action in ('RETRY', 'CANCEL', 'COMPLETE', 'CANCEL_BATCH')),
    state        text        not null
        constraint operator_action_state_known check (state in ('PROPOSED', 'RUNNING', 'DONE', 'STOPPED')),
    operator     text,
    reason       text,
    selection    jsonb       not null default '{}',
    request      jsonb       not null default '{}',
    rate         double precision constraint operator_action_rate_positive check (rate > 0),
    total        bigint      not null default 0,
    position     bigint      not null default 0,
    applied      bigint      not null default 0,
    refused      bigint      not null default 0,
    undone       bigint      not null default 0,
    last_due_at  timestamptz,
    approved_by  text,
    stopped_by   text,
    created_at   timestamptz not null default clock_timestamp(),
    ended_at     timestamptz,
    pruned_at    timestamptz
);

create index operator_action_created on commandbus.operator_action (created_at);

comment on column commandbus.operator_action.position is 'Items up to this one are done.';
comment on column commandbus.operator_action.pruned_at is 'Since then its items are deleted: it cannot be taken back. See commandbus.prune_actions.';
comment on column commandbus.operator_action.last_due_at is 'When the last command of a retry with a rate is due.';

create table commandbus.operator_item (
    action_id   uuid   not null,
    position    bigint not null,
    domain      text   not null,
    command_id  uuid   not null,
    state       text   not null default 'WAITING'
        constraint operator_item_state_known check (state in ('WAITING', 'APPLIED', 'REFUSED', 'UNDONE')),
    lease_no    bigint,
    before      jsonb,
    constraint operator_item_pkey primary key (action_id, position)
);

create index operator_item_command on commandbus.operator_item (command_id, domain);

comment on column commandbus.operator_item.lease_no is 'Of the command after the action: while it has this one, nobody received it.';
comment on column commandbus.operator_item.before is 'What a retry overwrote: attempts, error, since and, if it was edited, data.';

-- What operators must keep to, in every process and on every screen. One row, or none for no rules.
create table commandbus.operator_rules (
    only_one         boolean     not null default true
        constraint operator_rules_pkey primary key constraint operator_rules_are_one check (only_one),
    approve_above    bigint constraint operator_rules_approve_above_positive check (approve_above >= 0),
    reason_required  boolean     not null default false,
    changed_by       text,
    changed_at       timestamptz not null default clock_timestamp()
);

comment on column commandbus.operator_rules.approve_above is 'A decision on more commands than this needs a second operator; null: never.';

insert into commandbus.audit_path (event_type, before, after) values
    ('OPERATOR_UNDO', 'PENDING', 'IN_TROUBLESHOOTING_QUEUE');
