-- Seconds by which a command may start later than it was admitted; a rate limit's window is longer by as much.
--
-- A worker gives back what it could not start within this time, so that starts which were late cannot meet those of the next window.
create or replace function commandbus.rate_slack(p_per_seconds double precision)
returns double precision
language sql immutable
as $$
    select least(greatest(p_per_seconds / 10, 0.1), 1.0)
$$;
