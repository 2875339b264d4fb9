-- Tell those who wait for these commands, as far as they have ended; each channel once.
--
-- Called after the COMMIT of whatever may have ended them, never inside it: a NOTIFY takes a lock of the whole cluster at commit. When
-- nobody waits this is one index lookup for each command. A row is removed when its channel is told. Locks the rows it removes, skipping
-- locked ones.
create or replace function commandbus.tell(p_domains text[], p_command_ids uuid[])
returns integer
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_told integer;
begin
    if not exists (select from commandbus.waiter as w where w.command_id = any (p_command_ids)) then
        return 0;
    end if;
    with waiting as (
        select w.command_id, w.domain, w.channel
        from unnest(p_domains, p_command_ids) as k(domain, command_id)
        join commandbus.waiter as w on w.command_id = any (array[k.command_id]) and w.domain || '' = k.domain
        where exists (
            select from commandbus.command as c
            where c.command_id = any (array[k.command_id]) and c.domain || '' = k.domain
              and c.status in ('COMPLETED', 'FAILED', 'CANCELED'))
        order by w.command_id
        for update of w skip locked
    ), removed as (
        delete from commandbus.waiter as w using waiting as g
        where w.command_id = any (array[g.command_id]) and w.domain = g.domain and w.channel = g.channel
        returning w.channel
    )
    select count(*) into v_told
    from (select distinct r.channel from removed as r) as c, pg_notify(c.channel, '');
    return v_told;
end;
$$;
