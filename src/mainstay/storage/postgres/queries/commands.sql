-- name: create_queue
-- Create the queue of a domain unless it is there.
select commandbus.create_queue(%(domain)s);

-- name: send
-- Put commands in; says which were stored and which refused.
select domain, command_id::text, msg_id, refusal, holder_id::text from commandbus.send(%(commands)s::jsonb);

-- name: send_all
-- Put commands in, all or none; answers as send does.
select domain, command_id::text, msg_id, refusal, holder_id::text from commandbus.send_all(%(commands)s::jsonb);

-- name: send_and_wake
-- Put commands in and, when that is committed, wake workers: two transactions, one round trip. Gives up
-- when another transaction holds one of the ids. For one
-- domain; sent as text, without parameters.
begin;
set local lock_timeout = '100ms';
select domain, command_id::text, msg_id, refusal, holder_id::text from commandbus.send(%(commands)s::jsonb);
commit;
select commandbus.wake(%(domain)s, %(count)s);

-- name: send_one
-- The same for one plain command, in one call; its message's id, or null if its id is known. Sent as text, without parameters.
call commandbus.send_one(
    %(domain)s, %(command_type)s, %(command_id)s, %(data)s, %(correlation_id)s, %(max_attempts)s, %(headers)s, %(priority)s, null);

-- name: send_many_and_wake
-- The same for plain commands, all or none; the ids of their messages, or null. Gives up as send_and_wake, unless it is to be patient.
begin;
select commandbus.send_many(%(domain)s, %(commands)s, %(patient)s);
commit;
select commandbus.wake(%(domain)s, %(count)s);

-- name: send_all_and_wake
-- As send_and_wake, all commands or none.
begin;
select domain, command_id::text, msg_id, refusal, holder_id::text from commandbus.send_all(%(commands)s::jsonb);
commit;
select commandbus.wake(%(domain)s, %(count)s);

-- name: create_batch
-- Create a batch with all its commands or not at all; answers as send does.
select domain, command_id::text, msg_id, refusal, holder_id::text
from commandbus.create_batch(
    %(domain)s, %(batch_id)s, %(name)s, %(custom_data)s::jsonb, %(on_complete)s::jsonb, %(commands)s::jsonb,
    %(parent_id)s, %(sealed)s);

-- name: send_to_batch
-- Put a chunk of commands into an open batch, all or none; answers as send does.
select domain, command_id::text, msg_id, refusal, holder_id::text
from commandbus.send_to_batch(%(domain)s, %(batch_id)s, %(commands)s::jsonb);

-- name: seal_batch
-- Let a batch end with what it has.
select commandbus.seal_batch(%(domain)s, %(batch_id)s);

-- name: wake
-- Wake up to this many sleeping workers of a domain.
select commandbus.wake(%(domain)s, %(count)s);

-- name: cancel
-- Cancel a waiting command, or ask for the end of a running one; the status it was found in.
select status from commandbus.cancel(%(domain)s, %(command_id)s, %(reason)s, %(running)s);

-- name: receive
-- Lease due commands, by priority, oldest first.
select
    command_id, msg_id, lease_no, attempt, max_attempts, message::text, headers::text, created_at, key, in_batch, limited, start_within
from commandbus.receive(%(domain)s, %(limit)s, %(lease)s, %(worker)s, %(at_once)s);

-- name: complete
-- Write what became of commands; the verdict on each, and whether somebody waits for it.
select
    c.command_id, c.verdict,
    exists (select from commandbus.waiter as w where w.command_id = any (array[c.command_id]) and w.domain || '' = %(domain)s) as awaited
from commandbus.complete(%(domain)s, %(outcomes)s::jsonb) as c;

-- name: complete_and_send
-- Write what became of commands and send what goes with it; answers as complete does.
select
    c.command_id, c.verdict,
    exists (select from commandbus.waiter as w where w.command_id = any (array[c.command_id]) and w.domain || '' = %(domain)s) as awaited
from commandbus.complete_and_send(%(domain)s, %(outcomes)s::jsonb) as c;

-- name: complete_one
-- Complete one command in its handler's transaction; whether somebody waits for it. A script, in which queue_table is the table of its
-- domain's queue: named here, and not in the function, its plan is kept. The setting is for that plan, and for this transaction.
set local enable_seqscan = off;
delete from pgmq.queue_table where msg_id = %(msg_id)s;
select commandbus.complete_one(%(domain)s, %(command_id)s, %(lease_no)s, %(result)s);

-- name: complete_decided
-- The same for a command whose handler decided on an aggregate, with the decision.
set local enable_seqscan = off;
delete from pgmq.queue_table where msg_id = %(msg_id)s;
select commandbus.complete_decided(%(domain)s, %(command_id)s, %(lease_no)s, %(result)s, %(decision)s);

-- name: append_and_complete_decided
-- The same with what was decided: appending_query appends it, and a command without a result gets its version and position. The message goes first:
-- locks are taken in the order queue, command, stream, and who has deleted the message waits for nobody who waits for it.
set local enable_seqscan = off;
delete from pgmq.queue_table where msg_id = %(msg_id)s;
select
    commandbus.complete_decided(
        %(domain)s, %(command_id)s, %(lease_no)s,
        coalesce(%(result)s::jsonb, jsonb_build_object('version', a.version, 'position', a.position)), %(decision)s),
    a.version, a.position, a.repeated
from (appending_query) as a;

-- name: commit_and_begin
-- What follows it where another handler waits for the connection. An error ends a script at once.
commit;
begin;

-- name: report
-- Note how far commands are.
select commandbus.report(%(domain)s, %(reports)s::jsonb);

-- name: renew
-- Extend leases; the commands to stop.
select command_id, is_canceled from commandbus.renew(%(domain)s, %(leases)s::jsonb, %(lease)s);

-- name: about_to_sleep
-- Ask to be woken; seconds until the next deferred command is due.
select commandbus.about_to_sleep(%(domain)s, %(worker)s, %(seconds)s);

-- name: forget_sleeper
-- This worker will not sleep any more.
delete from commandbus.sleeper where worker = %(worker)s;

-- name: fold_batches
-- Sum up a domain's batches; those that this call finished.
select batch_id from commandbus.fold_batches(%(domain)s);

-- name: get
-- One command.
select * from commandbus.command where command_id = %(command_id)s and domain = %(domain)s;

-- name: commands_known_as
-- The commands with an id, in all domains.
select c.*, r.first_received, r.last_received
from commandbus.command as c
cross join lateral (
    select min(a.ts) as first_received, max(a.ts) as last_received from commandbus.audit as a
    where a.subject_no = c.subject_no and a.event_type = 'RECEIVED'
) as r
where c.command_id = %(command_id)s
order by c.created_at, c.domain;

-- name: batches_known_as
-- The batches with an id, in all domains; counts as in get_batch.
select b.* from commandbus.counted_batch as b where b.batch_id = %(batch_id)s order by b.created_at, b.domain;

-- name: conversation
-- The commands of conversations, the earliest first.
select (t.command).*, t.first_received, t.last_received
from commandbus.conversation(%(correlation_ids)s, %(limit)s) as t;

-- name: list_commands
-- Commands by any mix of conditions, newest first. A page after a place begins there in the index, however deep it is.
select * from commandbus.command
where (%(domain)s::text is null or domain = %(domain)s)
  and (%(status)s::text is null or status = %(status)s)
  and (%(command_type)s::text is null or command_type = %(command_type)s)
  and (%(batch_id)s::uuid is null or batch_id = %(batch_id)s)
  and (%(created_after)s::timestamptz is null or created_at >= %(created_after)s)
  and created_at <= least(%(created_before)s::timestamptz, %(after_time)s::timestamptz, 'infinity')
  and (%(tenant_id)s::text is null or headers ->> 'tenant_id' = %(tenant_id)s)
  and (%(correlation_id)s::uuid is null or correlation_id = %(correlation_id)s)
  and (%(after_time)s::timestamptz is null or created_at < %(after_time)s
       or (command_id, domain) > (%(after_id)s::uuid, %(after_domain)s::text))
order by created_at desc, command_id, domain
limit %(limit)s offset %(offset)s;

-- name: list_batch_commands
-- The commands of one batch, newest first.
select * from commandbus.command
where batch_id = %(batch_id)s and domain = %(domain)s
  and (%(status)s::text is null or status = %(status)s)
order by created_at desc, command_id
limit %(limit)s offset %(offset)s;

-- name: audit_trail
-- What happened to a command, in order.
select a.audit_id, s.domain, %(command_id)s::uuid as command_id, a.event_type, a.ts, a.details
from (
    select c.domain, c.subject_no from commandbus.command as c where c.command_id = %(command_id)s
    union all
    select b.domain, b.subject_no from commandbus.batch as b where b.batch_id = %(command_id)s
) as s
join commandbus.audit as a on a.subject_no = s.subject_no
where %(domain)s::text is null or s.domain = %(domain)s
order by a.audit_id;

-- name: list_troubleshooting
-- Commands that wait for an operator, the longest waiting first; only those that are given out are read, as in select_troubled.
select c.*
from (
    select t.command_id, t.domain, t.since
    from commandbus.troubleshooting as t
    where (%(domain)s::text is null or t.domain = %(domain)s)
      and (%(command_type)s::text is null or t.command_type = %(command_type)s)
    order by t.since, t.command_id
    offset 0
) as t
cross join lateral (
    select c.* from commandbus.command as c where c.command_id = t.command_id and c.domain = t.domain offset 0
) as c
order by t.since, t.command_id
limit %(limit)s offset %(offset)s;

-- name: count_troubleshooting
-- How many commands wait for an operator.
select count(*)
from commandbus.troubleshooting as t
where (%(domain)s::text is null or t.domain = %(domain)s)
  and (%(command_type)s::text is null or t.command_type = %(command_type)s);

-- name: get_batch
-- One batch; its counts include the deltas that are not summed up yet.
select b.* from commandbus.counted_batch as b where b.batch_id = %(batch_id)s and b.domain = %(domain)s;

-- name: list_batches
-- Batches of a domain, or of all, newest first; counts as in get_batch.
select b.* from commandbus.counted_batch as b
where (%(domain)s::text is null or b.domain = %(domain)s)
  and (%(status)s::text is null or b.status = %(status)s)
  and (%(parent_id)s::uuid is null or b.parent_id = %(parent_id)s)
order by b.created_at desc, b.batch_id
limit %(limit)s offset %(offset)s;

-- name: stats_by_status
-- How many commands of each domain stand where.
select domain, status, count(*) as commands
from commandbus.command
where %(domain)s::text is null or domain = %(domain)s
group by domain, status
order by domain, status;

-- name: stats_deferred
-- How many commands of each domain wait for their time.
select domain, count(*) as deferred
from commandbus.deferred
where %(domain)s::text is null or domain = %(domain)s
group by domain;

-- name: stats_parked
-- How many commands of each domain wait for a gate.
select domain, count(*) as parked
from commandbus.parked
where %(domain)s::text is null or domain = %(domain)s
group by domain;

-- name: stats_breakers
-- How many breakers of each domain are open or closing.
select domain, count(*) as breakers
from commandbus.breaker
where %(domain)s::text is null or domain = %(domain)s
group by domain;

-- name: stats_keyed
-- How many commands of each domain wait for the turn of their key.
select domain, count(*) as keyed
from commandbus.keyed
where %(domain)s::text is null or domain = %(domain)s
group by domain;

-- name: backlog
-- What waits in a domain: in its queue, and for an operator; and how many breakers are open.
select q.ready, q.in_flight, q.oldest_ready_seconds,
    (select count(*) from commandbus.troubleshooting as t where t.domain = %(domain)s) as troubleshooting,
    (select count(*) from commandbus.breaker as b where b.domain = %(domain)s and b.state = 'OPEN') as open_breakers
from commandbus.queue_lengths(%(domain)s) as q;

-- name: stats_queues
-- What stands in the queues, by domain.
select q.domain, q.ready, q.in_flight, q.oldest_ready_seconds
from commandbus.queue_lengths(%(domain)s) as q;

-- name: take_snapshot
-- Let everything that follows in this transaction see one moment.
set transaction isolation level repeatable read, read only;

-- name: count_commands
-- How many commands there are.
select count(*) from commandbus.command;

-- name: count_events
-- How many events there are.
select count(*) from eventsource.event;

-- name: find_faults
-- What must never be.
select invariant, domain, command_id, details from commandbus.find_faults()
union all
select invariant, domain, command_id, details from commandbus.find_process_faults()
union all
select invariant, domain, command_id, details from commandbus.find_action_faults()
union all
select invariant, domain, command_id, details from commandbus.find_decision_faults()
union all
select invariant, null, null, details from eventsource.find_event_faults()
union all
select invariant, null, null, details from eventsource.find_projection_faults();
