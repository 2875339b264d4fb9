-- When work_breakers has something to do for a breaker; null: its probe is under way, and whoever ends that will tell.
--
-- Called by work_breakers and about_to_sleep. A breaker for which nothing waits is kept for as long as its rule looks back. Locks nothing.
create or replace function commandbus.breaker_due(p_breaker commandbus.breaker)
returns timestamptz
language sql stable
as $$
    select case
        when p_breaker.probe_id is not null then
            case when not commandbus.is_probing(p_breaker.domain, p_breaker.probe_id) then p_breaker.changed_at end
        when exists (
            select from commandbus.parked as p
            where p.domain = p_breaker.domain and p.command_type = p_breaker.command_type and p.held_by = p_breaker.fingerprint)
        then p_breaker.next_at
        else p_breaker.next_at + (
            select make_interval(secs => case when r.failures is null then 0 else r.within end)
            from commandbus.breaker_rule as r
            where r.domain = p_breaker.domain and r.command_type = p_breaker.command_type) end
$$;
