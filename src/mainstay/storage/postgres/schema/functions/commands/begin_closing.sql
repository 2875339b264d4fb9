-- Let a breaker begin to let go what it holds. p_is_forced: an operator says so, and failures count as attempts again.
--
-- Called under the domain's lock by work_breakers, close_breaker and remove_breaker.
create or replace function commandbus.begin_closing(
    p_breaker commandbus.breaker, p_is_forced boolean, p_operator text, p_reason text)
returns void
language plpgsql volatile
as $$
declare
    v_now timestamptz := clock_timestamp();
begin
    update commandbus.breaker as b
    set state = 'CLOSING', changed_at = v_now, next_at = v_now, probe_id = null, failed_probes = 0, is_forced = p_is_forced
    where b.domain = p_breaker.domain and b.command_type = p_breaker.command_type and b.fingerprint = p_breaker.fingerprint;
    delete from commandbus.breaker_failure as f
    where f.domain = p_breaker.domain and f.command_type = p_breaker.command_type and f.fingerprint = p_breaker.fingerprint;
    perform commandbus.note_breaker(
        p_breaker.domain, p_breaker.command_type, p_breaker.fingerprint, 'CLOSED', p_operator, p_reason);
end;
$$;
