-- Ask to be the one who prunes, or to stay it, for p_seconds. Returns 0 if so, else seconds after which to ask again.
--
-- Called by Pruner. It is given to whoever asks first when the next run is due and nobody holds it; whoever dies loses it when his time is
-- over. Nothing depends on it but that work is not done twice: commandbus.prune skips what another one holds.
-- Locks: the one row of `pruning`, for one call.
create or replace function commandbus.take_pruning(p_holder text, p_seconds double precision)
returns double precision
language plpgsql volatile
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_again double precision;
begin
    insert into commandbus.pruning as p (holder, until, next_at)
    values (p_holder, v_now + make_interval(secs => p_seconds), v_now)
    on conflict (only_one) do update set holder = excluded.holder, until = excluded.until
    where (p.holder = excluded.holder or p.until <= v_now) and p.next_at <= v_now;
    if found then
        return 0;
    end if;
    select extract(epoch from greatest(p.next_at, p.until) - v_now) into v_again from commandbus.pruning as p;
    return greatest(v_again, 0.001);
end;
$$;
