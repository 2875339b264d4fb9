-- The least that a command's life writes in the same tables as mainstay keeps: a command row, a queue row, three audit
-- rows. One statement each for send, receive and complete; nothing is checked, renewed, retried or counted.

-- name: schema
create schema bench;
create table bench.command (
  command_id   uuid primary key,
  domain       text not null,
  command_type text not null,
  data         jsonb not null,
  status       text not null default 'PENDING',
  attempts     integer not null default 0,
  result       jsonb,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now()
);
create table bench.queue (
  msg_id     bigint generated always as identity primary key,
  command_id uuid not null,
  vt         timestamptz not null default now()
);
create table bench.audit (
  audit_id   bigint generated always as identity primary key,
  command_id uuid not null,
  event_type text not null,
  at         timestamptz not null default now()
);
create table bench.event (
  position       bigint generated always as identity primary key,
  stream_id      uuid not null,
  version        integer not null,
  kind_no        integer not null,
  event_version  integer not null,
  event_id       uuid not null,
  recorded_at    timestamptz not null default now(),
  occurred_at    timestamptz not null,
  correlation_id uuid,
  causation_id   uuid,
  actor_id       text,
  payload        json,
  metadata       json,
  tags           text[],
  unique (stream_id, version)
);
create index event_kind on bench.event (kind_no, position);

-- name: send
with command as (
  insert into bench.command (command_id, domain, command_type, data)
  select * from unnest(%(ids)s::uuid[], %(domains)s::text[], %(types)s::text[], %(data)s::jsonb[])
  returning command_id
), queued as (
  insert into bench.queue (command_id) select command_id from command
)
insert into bench.audit (command_id, event_type) select command_id, 'SENT' from command;

-- name: receive
with picked as (
  select msg_id, command_id
  from bench.queue
  where vt <= now()
  order by msg_id
  limit %(count)s
  for update skip locked
), leased as (
  update bench.queue q
  set vt = now() + interval '30 seconds'
  from picked p
  where q.msg_id = p.msg_id
), started as (
  update bench.command c
  set status = 'IN_PROGRESS', attempts = attempts + 1, updated_at = now()
  from picked p
  where c.command_id = p.command_id
  returning c.command_id, c.data
), audited as (
  insert into bench.audit (command_id, event_type) select command_id, 'RECEIVED' from picked
)
select p.msg_id, s.command_id, s.data
from picked p
join started s using (command_id);

-- name: complete
with deleted as (
  delete from bench.queue where msg_id = any(%(messages)s::bigint[])
), completed as (
  update bench.command c
  set status = 'COMPLETED', result = '{}', updated_at = now()
  where c.command_id = any(%(ids)s::uuid[])
)
insert into bench.audit (command_id, event_type)
select command_id, 'COMPLETED' from unnest(%(ids)s::uuid[]) as command_id;

-- name: effect
insert into effect (number) select unnest(%(numbers)s::bigint[]);

-- name: load
select e.version, (e.payload ->> 'amount')::integer from bench.event as e where e.stream_id = %(account_id)s::uuid order by e.version;

-- name: append
insert into bench.event (stream_id, version, kind_no, event_version, event_id, occurred_at, causation_id, payload)
values (%(account_id)s::uuid, %(version)s, 1, 1, %(event_id)s, now(), %(command_id)s, %(payload)s::json);
