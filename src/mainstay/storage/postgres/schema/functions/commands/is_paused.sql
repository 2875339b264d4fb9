-- Whether a whole domain is paused.
--
-- Called by receive and about_to_sleep, in domains that have gates.
create or replace function commandbus.is_paused(p_domain text)
returns boolean
language sql stable
as $$
    select exists (select from commandbus.gate as g where g.domain = p_domain and g.command_type = '' and g.paused_at is not null)
$$;
