-- A worker that found nothing says that it will sleep, and learns when the next deferred command is due, the next start under a rate limit, or
-- what a breaker lets go.
--
-- Called by a worker, which commits this and then receives once more before it sleeps: whatever was sent before the commit is found
-- by that receive, whatever is sent after it sees this row. Returns seconds until the next due time, 0 if keys
-- wait for a promoter, null if there is neither.
create or replace function commandbus.about_to_sleep(p_domain text, p_worker text, p_seconds double precision)
returns double precision
language plpgsql volatile
set plan_cache_mode = force_generic_plan
as $$
declare
    v_due double precision;
    v_held double precision;
    v_is_gated boolean;
    v_first_hint bigint := commandbus.first_hint(p_domain);
begin
    insert into commandbus.sleeper as s (worker, domain, until)
    values (p_worker, p_domain, clock_timestamp() + make_interval(secs => p_seconds))
    on conflict (worker) do update set until = excluded.until, domain = excluded.domain;
    v_is_gated := exists (select from commandbus.gate as g where g.domain = p_domain);
    if v_is_gated and commandbus.is_paused(p_domain) then
        return null;
    elsif exists (select from commandbus.key_hint as h where h.domain = p_domain and h.hint_no >= v_first_hint) then
        return 0;
    end if;
    select greatest(0, extract(epoch from d.due_at - clock_timestamp())) into v_due
    from commandbus.deferred as d where d.domain = p_domain
    order by d.due_at limit 1;
    if exists (select from commandbus.breaker as b where b.domain = p_domain) then
        select min(greatest(0, extract(epoch from d.at - clock_timestamp()))) into v_held
        from commandbus.breaker as b
        cross join lateral commandbus.breaker_due(b) as d(at)
        where b.domain = p_domain and d.at is not null;
        v_due := least(v_due, v_held);
    end if;
    return case when v_is_gated then least(v_due, commandbus.seconds_until_room(p_domain)) else v_due end;
end;
$$;
