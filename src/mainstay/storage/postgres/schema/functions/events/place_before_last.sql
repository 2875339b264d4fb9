-- The position after which the last so many wanted events stand, up to the horizon; the horizon if there is none.
--
-- p_types, p_categories, p_tenant: as for last_positions.
--
-- Called by Operator.events. Locks nothing.
create or replace function eventsource.place_before_last(
    p_types text[], p_categories text[], p_tenant text, p_horizon bigint, p_count integer)
returns bigint
language plpgsql stable
set jit = off
as $$
declare
    v_found bigint[] := eventsource.last_positions(p_types, p_categories, p_tenant, p_horizon, p_count);
begin
    return coalesce(v_found[cardinality(v_found)] - 1, p_horizon);
end;
$$;
