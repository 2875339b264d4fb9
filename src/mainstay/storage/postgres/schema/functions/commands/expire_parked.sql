-- End parked commands whose time is over, whatever their gate says; at most p_limit. Returns their ids.
--
-- Called by receive in domains that have gates, also paused ones, before it looks at the gates. Locks parked rows in the order of ids, skipping
-- those that cancel holds, then as call_off. A crash before COMMIT leaves them parked.
create or replace function commandbus.expire_parked(p_domain text, p_limit integer)
returns uuid[]
language plpgsql volatile
set plan_cache_mode = force_generic_plan
as $$
declare
    v_ids uuid[];
begin
    select array_agg(l.command_id) into v_ids
    from (
        select p.command_id
        from (
            select t.command_id from commandbus.parked as t
            where t.domain = p_domain and t.expires_at <= clock_timestamp()
            order by t.expires_at limit p_limit
        ) as chosen
        join commandbus.parked as p on p.command_id = chosen.command_id and p.domain = p_domain
        order by p.command_id
        for update of p skip locked
    ) as l;
    if v_ids is not null then
        perform commandbus.call_off(p_domain, v_ids, null);
    end if;
    return v_ids;
end;
$$;
