-- Seconds until a domain with gates may have something to start beside what is deferred; null: only a wake-up can tell.
--
-- Called by about_to_sleep, in domains that have gates. 0 if a parked command may start now; a moment if a message stands in the queue: receive
-- parks what it cannot let through, up to some number a call. Of a rate limit: when the start comes into reach that frees the next.
-- A freed slot is told by whoever frees it. Locks nothing.
create or replace function commandbus.seconds_until_room(p_domain text)
returns double precision
language plpgsql volatile
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_table regclass := commandbus.queue_table(p_domain || '__commands');
    v_found boolean;
    v_seconds double precision;
begin
    execute format(
        'select exists (select from unnest($1) as r(ids) cross join lateral ('
        '  select from %s as q where q.msg_id >= lower(r.ids) and q.msg_id < upper(r.ids) and q.vt <= clock_timestamp() limit 1) as q)', v_table)
    using (commandbus.live_range_of(p_domain, v_table)).ranges
    into v_found;
    if v_found then
        return 0.02;  -- soon, not at once: it may be in the hand of somebody who takes long
    end if;
    select min(case when commandbus.room(g) is distinct from 0 then 0 when due.at is not null then greatest(0, extract(epoch from due.at - v_now)) end)
    into v_seconds
    from commandbus.gate as g
    cross join lateral (
        select case when b.full or r.full then
            greatest(case when r.full then r.free_at end, case when b.full then b.free_at end) end as at
        from (
            select sum(s.starts) >= g.rate as full,
                   min(s.at) + make_interval(secs => g.per_seconds + commandbus.rate_slack(g.per_seconds)) as free_at
            from commandbus.limit_grant as s
            where s.domain = g.domain and s.command_type = g.command_type
              and s.at > v_now - make_interval(secs => g.per_seconds + commandbus.rate_slack(g.per_seconds))
        ) as r
        cross join (
            select sum(s.starts) >= g.burst as full, min(s.at) + make_interval(secs => g.per_seconds * g.burst / g.rate) as free_at
            from commandbus.limit_grant as s
            where s.domain = g.domain and s.command_type = g.command_type
              and s.at > v_now - make_interval(secs => g.per_seconds * g.burst / g.rate)
        ) as b
    ) as due
    where g.domain = p_domain and g.command_type <> '' and g.paused_at is null
      and exists (select from commandbus.parked as p where p.domain = g.domain and p.command_type = g.command_type and p.held_by is null)
      and (g.per is null or commandbus.room(g) is not distinct from 0);
    return v_seconds;
end;
$$;
