-- Let the keys of commands that ended go on: the head goes, and a hint says that the next may be promoted.
--
-- Called by complete, cancel and act, in the transaction in which the commands end. Locks the heads that it removes, which nobody
-- waits for: promote_keys sees a head until the COMMIT and leaves the key alone, and the hint, visible from then on, leads the next one to it.
-- A command that is not its key's head (it waited for its turn, or an operator let the key go on without it) leaves the head alone. The hint
-- is written all the same: a promoter may have chosen the very row that a cancel was taking away.
create or replace function commandbus.release_keys(p_domain text, p_command_ids uuid[])
returns void
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
    with ended as materialized (
        select c.key, c.command_id
        from unnest(p_command_ids) as t(id)
        join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain
        where c.key is not null
    ), gone as (
        delete from commandbus.key_head as h using ended as e
        where h.key = any (array[e.key]) and h.domain || '' = p_domain and h.command_id = e.command_id
    )
    insert into commandbus.key_hint (domain, key) select distinct p_domain, e.key from ended as e;
end;
$$;
