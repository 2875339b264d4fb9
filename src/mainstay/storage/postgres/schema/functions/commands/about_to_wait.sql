-- Somebody says that he waits for these commands to end, and on which channel he wants to be told.
--
-- Called by a bus before it sends a request, so that whoever ends the command sees the row. Rows that nobody took back, because their
-- process died, are past their time and are removed here, a few at a time. Locks its own rows, in the order of ids, and dead ones that nobody else
-- has locked. Unlogged and without a foreign key: a row that is lost costs a wake-up, and whoever waits also looks by himself.
create or replace function commandbus.about_to_wait(
    p_domains text[], p_command_ids uuid[], p_channel text, p_seconds double precision)
returns void
language plpgsql volatile
set plan_cache_mode = force_generic_plan
as $$
declare
    v_now timestamptz := clock_timestamp();
begin
    delete from commandbus.waiter as w
    using (
        select d.command_id, d.domain, d.channel from commandbus.waiter as d
        where d.until < v_now - interval '1 minute'
        order by d.until limit 100
        for update skip locked
    ) as dead
    where w.command_id = dead.command_id and w.domain = dead.domain and w.channel = dead.channel;

    insert into commandbus.waiter as w (command_id, domain, channel, until)
    select distinct k.command_id, k.domain, p_channel, v_now + make_interval(secs => p_seconds)
    from unnest(p_domains, p_command_ids) as k(domain, command_id)
    order by k.command_id
    on conflict (command_id, domain, channel) do update set until = greatest(w.until, excluded.until);
end;
$$;
