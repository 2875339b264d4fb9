-- Hold streams until the transaction ends, so that nobody else appends to them: what is decided on meanwhile is current.
--
-- Called before commit_group, in its transaction, for streams to which others append all the time. The parallel arrays name them, in the order of category,
-- tenant and id. Returns the places (from 1) of those that are held, and of those that were never written, which nobody can hold. If somebody else holds each of them, the
-- first one is waited for.
--
-- Locks: the rows of the streams in the order given, passing by locked ones; then, if there is none, that of the first. Waits for a second at most, and
-- then raises 55P03: a transaction that holds a stream for longer must not hold up commands for other streams. So streams come before the queue and command rows of
-- commit_group here, as in a handler's transaction on an aggregate; whoever holds those waits for no stream. A crash lets all go.
create or replace function eventsource.hold_streams(p_categories text[], p_tenants text[], p_ids text[])
returns integer[]
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
set lock_timeout = '1s'
as $$
declare
    v_held integer[];
begin
    v_held := array(
        select a.place
        from unnest(p_categories, p_tenants, p_ids) with ordinality as a(category, tenant_id, stream_id, place)
        cross join lateral (
            select s.stream_no from eventsource.stream as s
            where s.category = a.category and s.tenant_id = a.tenant_id and s.stream_id = a.stream_id
            for update skip locked
        ) as s)
        || array(
        select a.place
        from unnest(p_categories, p_tenants, p_ids) with ordinality as a(category, tenant_id, stream_id, place)
        where not exists (
            select from eventsource.stream as s
            where s.category = a.category and s.tenant_id = a.tenant_id and s.stream_id = a.stream_id));
    if v_held = '{}' then
        perform from eventsource.stream as s
        where s.category = p_categories[1] and s.tenant_id = p_tenants[1] and s.stream_id = p_ids[1]
        for update;
        v_held := array[1];
    end if;
    return v_held;
end;
$$;
