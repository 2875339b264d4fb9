-- Take the unique keys of a domain's commands that are about to be sent; returns those whose key is held by another command.
--
-- Called by send, when a command has a unique key, before it stores any. A key is held by the command that took it last, while that has not
-- ended, and if it is COMPLETED until held_until; an end is final, so whoever finds a holder that has ended may take the key over. A command
-- whose successor_of names the holder takes it over, too: the caller ends the holder in the same transaction. Commands whose id is known are
-- passed by: they are duplicates. Of several in one call that share a key the first takes it. Refusal is null for those that are to be skipped.
--
-- Locks: claims, in the order of keys, before any command is stored; those seen to be held are not locked, nor waited for. So two senders
-- of one key wait for each other's end in one order, and the second then finds the holder that the first left. No command is locked: an end
-- that is not committed yet is not seen, and the send is refused. A rollback or a crash frees what it took.
-- No table is joined, so that a plan made when it was empty stays good.
create or replace function commandbus.claim_unique(p_domain text, p_commands jsonb)
returns table (command_id uuid, refusal text, holder_id uuid)
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_timestamp();
    v_ids uuid[];
    v_keys text[];
    v_skip boolean[];
    v_holders uuid[];
    v_wanted text[];
    v_takers uuid[];
    v_after uuid[];
    v_until timestamptz[];
    v_new integer;
begin
    select
        array_agg(g.id order by g.place), array_agg(g.key order by g.place), array_agg(g.skip order by g.place),
        array_agg(g.holder_id order by g.place),
        array_agg(g.key order by g.key) filter (where g.is_first), array_agg(g.id order by g.key) filter (where g.is_first),
        array_agg(g.after order by g.key) filter (where g.is_first), array_agg(g.until order by g.key) filter (where g.is_first)
    into v_ids, v_keys, v_skip, v_holders, v_wanted, v_takers, v_after, v_until
    from (
        select r.*, r.holder_id is null and row_number() over (partition by r.key order by r.place) = 1 as is_first
        from (
            select
                a.*,
                (select u.command_id from commandbus.unique_claim as u
                 where u.unique_key = a.key and u.domain = p_domain
                   and commandbus.holds_unique(u.domain, u.command_id, u.held_until, a.after, v_now)) as holder_id
            from (
                select
                    (c.value ->> 'command_id')::uuid as id, c.value ->> 'unique_key' as key, c.place,
                    coalesce(c.value ->> 'on_conflict' = 'SKIP', false) as skip, (c.value ->> 'successor_of')::uuid as after,
                    v_now + make_interval(secs => (c.value ->> 'unique_for')::double precision) as until
                from jsonb_array_elements(p_commands) with ordinality as c(value, place)
                where c.value ->> 'domain' = p_domain and c.value ->> 'unique_key' is not null
            ) as a
            where (select c.command_id from commandbus.command as c where c.command_id = a.id and c.domain = p_domain) is null
        ) as r
    ) as g;
    if v_ids is null then
        return;
    end if;

    insert into commandbus.unique_claim as u (unique_key, domain, command_id, held_until)
    select w.key, p_domain, w.id, w.until
    from unnest(v_wanted, v_takers, v_until) as w(key, id, until)
    order by w.key
    on conflict (unique_key, domain) do update set command_id = u.command_id where false;  -- locks it, and writes nothing
    get diagnostics v_new = row_count;
    if v_new = cardinality(v_ids) then
        return;
    end if;

    update commandbus.unique_claim as u
    set command_id = v_takers[array_position(v_wanted, u.unique_key)], held_until = v_until[array_position(v_wanted, u.unique_key)]
    where u.unique_key = any (v_wanted) and u.domain = p_domain
      and u.command_id <> v_takers[array_position(v_wanted, u.unique_key)]
      and not commandbus.holds_unique(u.domain, u.command_id, u.held_until, v_after[array_position(v_wanted, u.unique_key)], v_now);

    return query
        select f.id, case when not f.skip then 'NOT_UNIQUE' end, f.holder_id
        from (
            select t.id, t.skip, coalesce(t.holder_id, (
                select u.command_id from commandbus.unique_claim as u
                where u.unique_key = t.key and u.domain = p_domain)) as holder_id
            from unnest(v_ids, v_keys, v_skip, v_holders) as t(id, key, skip, holder_id)
        ) as f
        where f.holder_id <> f.id;
end;
$$;
