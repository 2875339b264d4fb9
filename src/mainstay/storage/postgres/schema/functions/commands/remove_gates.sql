-- Remove gates that hold nothing up any more, so that their domain costs nothing again.
--
-- Called by release_parked, remove_limit and resume. A gate goes when it is not paused, has no limit, and nothing is parked before it;
-- the domain's own row goes last. Locks the domain's row, if there is something to remove.
create or replace function commandbus.remove_gates(p_domain text)
returns void
language plpgsql volatile
as $$
begin
    if not exists (
        select from commandbus.gate as g
        where g.domain = p_domain and g.paused_at is null and g.max_running is null and g.per is null and g.rate is null
          and case when g.command_type = '' then not exists (
                  select from commandbus.gate as o where o.domain = p_domain and o.command_type <> '')
              else not exists (select from commandbus.parked as p where p.domain = p_domain and p.command_type = g.command_type and p.held_by is null) end)
    then
        return;
    end if;
    perform commandbus.lock_gates(p_domain);
    delete from commandbus.gate as g
    where g.domain = p_domain and g.command_type <> '' and g.paused_at is null
      and g.max_running is null and g.per is null and g.rate is null
      and not exists (select from commandbus.parked as p where p.domain = p_domain and p.command_type = g.command_type and p.held_by is null);
    delete from commandbus.gate as g
    where g.domain = p_domain and g.command_type = '' and g.paused_at is null
      and not exists (select from commandbus.gate as o where o.domain = p_domain and o.command_type <> '');
end;
$$;
