-- How long a breaker waits before its next probe: twice as long after each that failed, up to 16 times as long.
--
-- Called by whatever sets next_at. mainstay.commands.breakers.LONGEST_WAIT is the same 16. Pure.
create or replace function commandbus.breaker_wait(p_probe_after double precision, p_failed_probes integer)
returns interval
language sql immutable
as $$
    select make_interval(secs => p_probe_after * least(power(2, least(p_failed_probes, 10)), 16))
$$;
