-- Move deferred commands that are due into the queue, the longest due first, or, if they have a key, into its line.
--
-- Called by receive. Locks the deferred rows it moves, skipping those another worker moves, then their command rows
-- in the order of ids; in domains that have breakers see hold_due. A crash before COMMIT leaves them deferred; after it they are ready. Returns how many are in the queue.
create or replace function commandbus.promote(p_domain text, p_limit integer)
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
    v_now timestamptz := clock_timestamp();
    v_ids uuid[];
    v_ready integer;
begin
    with due as (
        select d.command_id, d.due_at from commandbus.deferred as d
        where d.domain = p_domain and d.due_at <= v_now
        order by d.due_at
        limit p_limit
        for update skip locked
    ), moved as (
        delete from commandbus.deferred as d using due
        where d.command_id = any (array[due.command_id]) and d.domain || '' = p_domain
        returning d.command_id, d.due_at
    )
    select array_agg(m.command_id order by m.command_id) into v_ids from moved as m;
    if v_ids is null then
        return 0;
    end if;

    if exists (select from commandbus.breaker as b where b.domain = p_domain) then
        v_ids := commandbus.hold_due(p_domain, v_ids);
    end if;
    select count(*) into v_ready from commandbus.make_ready(p_domain, v_ids, false);
    return v_ready;
end;
$$;
