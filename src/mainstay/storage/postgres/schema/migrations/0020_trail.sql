-- breaking: no
-- Who changed what, when and why, beside what an audit trail of its own tells: schedules, pauses, limits, breakers, rules, decisions,
-- projections. Rows are only ever added, by triggers and by functions that change something, in the transaction of the change: so there
-- is no change without its row, and no row without its change. See commandbus.note_deed.

create table commandbus.operator_trail (
    deed_id   bigint generated always as identity constraint operator_trail_pkey primary key,
    at        timestamptz not null default clock_timestamp(),
    operator  text,
    role      text        not null default session_user,
    kind      text        not null,
    subject   text        not null,
    what      text        not null,
    reason    text,
    details   jsonb       not null default '{}'
);

create index operator_trail_at on commandbus.operator_trail (at);

comment on column commandbus.operator_trail.operator is 'Who says to have done it; null: nobody said.';
comment on column commandbus.operator_trail.role is 'The role that was logged in to the database.';
comment on column commandbus.operator_trail.details is 'Of a change {before, after}, with what differs; no payloads.';

create function commandbus.keep_trail()
returns trigger
language plpgsql
as $$
begin
    if coalesce(current_setting(case tg_op when 'TRUNCATE' then 'mainstay.may_empty' else 'mainstay.may_prune' end, true), '') = 'on'
        and tg_op <> 'UPDATE'
    then
        return old;
    end if;
    raise exception 'what operators did stays as it was written down' using
        errcode = 'object_not_in_prerequisite_state',
        hint = 'mainstay prune takes away what is older than the audit is to be kept.';
end;
$$;

create trigger trail_immutable before update or delete on commandbus.operator_trail
    for each row execute function commandbus.keep_trail();
create trigger trail_kept before truncate on commandbus.operator_trail
    for each statement execute function commandbus.keep_trail();
