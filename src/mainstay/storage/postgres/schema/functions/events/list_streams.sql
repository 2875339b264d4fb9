-- Streams in the order of category, tenant and id, after one of them: of a category, of a tenant, whose ids begin with a text.
--
-- Called by PostgresEventLog.streams. Locks nothing. Goes from one pair of category and tenant to the next by the index of names, two steps of it for
-- each, and reads nothing but what it returns: however many streams there are. Names hold printable characters only, so the first character there is stands
-- before everything that could follow a name, and the last one behind it.
create or replace function eventsource.list_streams(
    p_category text, p_tenant text, p_prefix text, p_after_category text, p_after_tenant text, p_after_id text, p_limit integer)
returns setof eventsource.stream
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_from_category text collate "C" := greatest(p_category collate "C", p_after_category collate "C");
    v_from_tenant text collate "C" := case when v_from_category = p_after_category then p_after_tenant else '' end;
    v_category text collate "C";
    v_tenant text collate "C";
    v_left integer := p_limit;
    v_found integer;
begin
    while v_left > 0 loop
        select s.category, s.tenant_id into v_category, v_tenant
        from eventsource.stream as s
        where (s.category, s.tenant_id) >= (v_from_category, v_from_tenant)
        order by s.category, s.tenant_id
        limit 1;
        exit when not found or v_category > p_category;
        if v_tenant < p_tenant then
            v_from_category := v_category;
            v_from_tenant := p_tenant;
        elsif v_tenant > p_tenant then
            v_from_category := v_category || chr(1);
            v_from_tenant := '';
        else
            return query
                select s.* from eventsource.stream as s
                where s.category = v_category and s.tenant_id = v_tenant
                  and s.stream_id > case when (v_category, v_tenant) = (p_after_category, p_after_tenant) then p_after_id else '' end
                  and s.stream_id >= p_prefix and s.stream_id < p_prefix || chr(1114111)
                  and s.version > 0
                order by s.stream_id
                limit v_left;
            get diagnostics v_found = row_count;
            v_left := v_left - v_found;
            v_from_category := v_category;
            v_from_tenant := v_tenant || chr(1);
        end if;
    end loop;
end;
$$;
