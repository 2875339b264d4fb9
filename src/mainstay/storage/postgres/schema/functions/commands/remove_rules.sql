-- Remove rules of breakers that were taken away and hold nothing any more, so that their domain costs nothing again.
--
-- Called under the domain's lock by remove_breaker and work_breakers. The domain's own row goes last.
create or replace function commandbus.remove_rules(p_domain text)
returns void
language plpgsql volatile
as $$
begin
    delete from commandbus.breaker_rule as r
    where r.domain = p_domain and r.command_type <> '' and r.failures is null and not exists (
        select from commandbus.breaker as b where b.domain = p_domain and b.command_type = r.command_type);
    delete from commandbus.breaker_rule as r
    where r.domain = p_domain and r.command_type = '' and not exists (
        select from commandbus.breaker_rule as o where o.domain = p_domain and o.command_type <> '');
end;
$$;
