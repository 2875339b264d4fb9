-- Wake sleeping workers of a domain, one for each message that was sent.
--
-- Called after the COMMIT of whatever sent something, never inside it: a NOTIFY takes a lock of the whole cluster at commit. When nobody
-- sleeps this is one index lookup. A woken worker's row is removed, so a burst of sends wakes it once.
-- Rows of workers that died asleep are past their time and are removed unwoken. Locks the rows it removes, skipping locked ones.
create or replace function commandbus.wake(p_domain text, p_count integer)
returns integer
language plpgsql volatile
set plan_cache_mode = force_generic_plan
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_woken integer;
begin
    if not exists (select from commandbus.sleeper as s where s.domain = p_domain) then
        return 0;
    end if;
    with dead as (
        delete from commandbus.sleeper as s where s.domain = p_domain and s.until < v_now - interval '1 minute'
    ), asleep as (
        select s.worker from commandbus.sleeper as s
        where s.domain = p_domain and s.until >= v_now
        order by s.until desc
        limit p_count
        for update skip locked
    ), removed as (
        delete from commandbus.sleeper as s using asleep where s.worker = asleep.worker returning s.worker
    )
    select count(*) into v_woken from removed as r, pg_notify('mainstay.' || r.worker, p_domain);
    return v_woken;
end;
$$;
