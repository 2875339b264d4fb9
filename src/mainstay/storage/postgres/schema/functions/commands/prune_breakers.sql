-- Delete what happened to breakers before a time, and failed attempts that no rule looks back to any more.
--
-- Called by Pruner and `mainstay prune`. Returns how many events were deleted. Events are only written to; failures are written under the
-- domain's lock, by whoever deletes these too: what one has deleted the other passes by.
create or replace function commandbus.prune_breakers(p_before timestamptz)
returns bigint
language plpgsql volatile
as $$
declare
    v_deleted bigint;
begin
    delete from commandbus.breaker_failure as f
    where not exists (
        select from commandbus.breaker_rule as r
        where r.domain = f.domain and r.command_type = f.command_type
          and f.at > clock_timestamp() - make_interval(secs => r.within));
    delete from commandbus.breaker_event as e where e.at < p_before;
    get diagnostics v_deleted = row_count;
    return v_deleted;
end;
$$;
