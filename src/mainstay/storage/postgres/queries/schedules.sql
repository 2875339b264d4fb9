-- name: now
-- What time it is.
select clock_timestamp();

-- name: lock
-- One schedule, to be changed.
select * from commandbus.schedule where name = %(name)s for update;

-- name: set
-- Store a schedule, or change the one of this name.
select * from commandbus.set_schedule(
    %(name)s, %(command)s::jsonb, %(cron)s, %(every)s, %(timezone)s, %(not_before)s, %(catch_up)s, %(catch_up_limit)s,
    %(next_due_at)s, %(counts_from)s);

-- name: take
-- Lock a schedule that is due, and say what time it is.
select s.*, clock_timestamp() as now from commandbus.take_schedule(%(domain)s, %(except)s) as s;

-- name: fire
-- Send the commands of a schedule's due times.
select commandbus.fire_schedule(%(name)s, %(due)s, %(command_ids)s, %(headers)s::jsonb[], %(next_due_at)s);

-- name: note_error
-- Say why a schedule could not be fired.
update commandbus.schedule set last_error = %(error)s where name = %(name)s;

-- name: due_in
-- Seconds until a schedule of a domain is due, but for those that could not be fired just now.
select greatest(0, extract(epoch from s.next_due_at - clock_timestamp()))::double precision
from commandbus.schedule as s
where s.domain = %(domain)s and not s.is_paused and s.next_due_at is not null and s.name <> all (%(except)s)
order by s.next_due_at
limit 1;

-- name: run
-- Send a schedule's command now.
select found, msg_id, refusal, holder_id::text from commandbus.run_schedule(%(name)s, %(command_id)s, %(headers)s::jsonb);

-- name: pause
-- Let a schedule not be fired.
update commandbus.schedule set is_paused = true, updated_at = clock_timestamp() where name = %(name)s returning *;

-- name: resume
-- Let a schedule be fired again, from a due time on.
update commandbus.schedule set is_paused = false, next_due_at = %(next_due_at)s, updated_at = clock_timestamp()
where name = %(name)s
returning *;

-- name: remove
-- Remove a schedule; whether there was one.
with gone as (delete from commandbus.schedule where name = %(name)s returning name)
select exists (select from gone);

-- name: get
-- One schedule.
select * from commandbus.schedule where name = %(name)s;

-- name: find
-- The schedules of a domain, or of all, by name.
select * from commandbus.schedule
where %(domain)s::text is null or domain = %(domain)s
order by name;
