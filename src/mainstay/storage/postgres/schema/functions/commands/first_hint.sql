-- The number below which a domain has no hint of a key, and will have none.
--
-- Called by whatever looks for hints, so that what is dead and cannot be removed, because of an old snapshot, is not walked over again: see
-- narrow_hints. Locks nothing. If the sequence was set back (a restored backup), nothing is known.
create or replace function commandbus.first_hint(p_domain text)
returns bigint
language plpgsql stable
as $$
declare
    v_live commandbus.live_range := commandbus.live_range_of(p_domain, 'commandbus.key_hint');
begin
    if v_live.no is null or v_live.seen > coalesce(pg_sequence_last_value('commandbus.key_hint_hint_no_seq'), 0) then
        return 0;
    end if;
    return lower(v_live.ranges);
end;
$$;
