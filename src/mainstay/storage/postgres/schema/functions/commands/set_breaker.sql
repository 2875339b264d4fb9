-- Give a command type breakers, in place of the rule that it had; those that are open go on under the new one.
--
-- Called by bus.breakers.set. Holds from the first failure that is written after the COMMIT. Locks the domain's row.
create or replace function commandbus.set_breaker(
    p_domain text, p_command_type text, p_failures integer, p_within double precision, p_probe_after double precision,
    p_drip double precision, p_operator text)
returns void
language plpgsql volatile
as $$
begin
    insert into commandbus.breaker_rule as r (domain, command_type) values (p_domain, '')
    on conflict on constraint breaker_rule_pkey do update set command_type = r.command_type;
    insert into commandbus.breaker_rule (domain, command_type, failures, within, probe_after, drip)
    values (p_domain, p_command_type, p_failures, p_within, p_probe_after, p_drip)
    on conflict on constraint breaker_rule_pkey do update
    set failures = excluded.failures, within = excluded.within, probe_after = excluded.probe_after, drip = excluded.drip;
    perform commandbus.note_breaker(p_domain, p_command_type, null, 'SET', p_operator, null, jsonb_build_object(
        'failures', p_failures, 'within', p_within, 'probe_after', p_probe_after, 'drip', p_drip));
end;
$$;
