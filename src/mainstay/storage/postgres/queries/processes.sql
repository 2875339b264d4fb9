-- name: start
-- Put processes in; those whose ids were known.
select known_id from commandbus.start_processes(%(processes)s::jsonb);

-- name: lock
-- A process, by its id or by a step's command, held until the transaction ends.
select * from commandbus.lock_process(%(process_id)s, %(command_id)s);

-- name: advance
-- Write a move of a process.
select commandbus.advance_process(%(change)s::jsonb);

-- name: get
-- One process.
select * from commandbus.process where process_id = %(process_id)s;

-- name: standing
-- What a move needs to know of a process that is held, besides its row.
select h.last_no, h.last_name, h.was_told, (h.step).*
from commandbus.process_standing(%(process_id)s, %(command_id)s, %(step_no)s, %(event_id)s) as h;

-- name: to_undo
-- The steps of a process that were done, the last first.
select * from commandbus.steps_to_undo(%(process_id)s, %(after)s, %(limit)s);

-- name: steps
-- The steps of a process, in order.
select * from commandbus.process_steps(%(process_id)s);

-- name: events
-- The events that a process was told of, in order.
select event_id, event_type, position, was_taken, taken_at from commandbus.process_event
where process_id = %(process_id)s
order by taken_at, position;

-- name: list
-- Processes by any mix of conditions, newest first.
select * from commandbus.process
where (%(domain)s::text is null or domain = %(domain)s)
  and (%(process_type)s::text is null or process_type = %(process_type)s)
  and (%(status)s::text is null or status = %(status)s)
  and (%(batch_id)s::uuid is null or batch_id = %(batch_id)s)
order by created_at desc, process_id
limit %(limit)s offset %(offset)s;

-- name: audit_trail
-- What happened to a process, in order.
select * from commandbus.process_audit where process_id = %(process_id)s order by audit_id;

-- name: count
-- How many processes of a batch stand where.
select status, count(*) as processes from commandbus.process where batch_id = %(batch_id)s group by status;
