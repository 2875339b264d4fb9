-- Open a breaker, for the first time or again.
--
-- Called under the domain's lock by hold_failures, and by open_breaker for an operator.
create or replace function commandbus.trip_breaker(
    p_rule commandbus.breaker_rule, p_fingerprint text, p_message text, p_operator text, p_reason text)
returns void
language plpgsql volatile
as $$
declare
    v_now timestamptz := clock_timestamp();
begin
    insert into commandbus.breaker as b (
        domain, command_type, fingerprint, state, since, changed_at, next_at, example_message)
    values (
        p_rule.domain, p_rule.command_type, p_fingerprint, 'OPEN', v_now, v_now,
        v_now + commandbus.breaker_wait(p_rule.probe_after, 0), p_message)
    on conflict on constraint breaker_pkey do update
    set state = 'OPEN', changed_at = v_now, next_at = excluded.next_at, probe_id = null, failed_probes = 0, is_forced = false,
        example_message = coalesce(excluded.example_message, b.example_message);
    delete from commandbus.breaker_failure as f
    where f.domain = p_rule.domain and f.command_type = p_rule.command_type and f.fingerprint = p_fingerprint;
    perform commandbus.note_breaker(
        p_rule.domain, p_rule.command_type, p_fingerprint, 'OPENED', p_operator, p_reason, jsonb_build_object('message', p_message));
end;
$$;
