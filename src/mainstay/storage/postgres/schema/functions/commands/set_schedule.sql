-- Store a schedule, or change the one of this name.
--
-- Called by bus.schedules.set, after it has looked at the row under its lock: when a rule is due is computed by the client, so p_next_due_at
-- and p_counts_from are what shall be. What was fired so far, and whether it is paused, stays. Locks the schedule's row; a worker that
-- fires it meanwhile is waited for, and fires by the new rule from then on.
create or replace function commandbus.set_schedule(
    p_name text, p_command jsonb, p_cron text, p_every interval, p_timezone text, p_not_before timestamptz, p_catch_up text,
    p_catch_up_limit integer, p_next_due_at timestamptz, p_counts_from timestamptz)
returns commandbus.schedule
language sql volatile
as $$
    insert into commandbus.schedule as s (
        name, domain, command, cron, every, timezone, not_before, catch_up, catch_up_limit, next_due_at, counts_from)
    values (
        p_name, p_command ->> 'domain', p_command, p_cron, p_every, p_timezone, p_not_before, p_catch_up, p_catch_up_limit,
        p_next_due_at, p_counts_from)
    on conflict (name) do update
    set domain = excluded.domain, command = excluded.command, cron = excluded.cron, every = excluded.every,
        timezone = excluded.timezone, not_before = excluded.not_before, catch_up = excluded.catch_up,
        catch_up_limit = excluded.catch_up_limit, next_due_at = excluded.next_due_at, counts_from = excluded.counts_from,
        last_error = null, updated_at = clock_timestamp()
    returning s.*
$$;
