-- Let commands wait for the turn of their key, and hint that there is something to promote.
--
-- Called by send and make_ready. Inserts only, into tables where nothing of it collides with anybody's: a transaction that stays
-- open holds up neither another sender with the same key nor the promoter, which sees neither row before the COMMIT.
create or replace function commandbus.line_up(p_domain text, p_command_ids uuid[], p_keys text[], p_numbers bigint[])
returns void
language sql volatile
as $$
    insert into commandbus.keyed (domain, key, subject_no, command_id)
    select p_domain, t.key, t.number, t.id from unnest(p_command_ids, p_keys, p_numbers) as t(id, key, number);
    insert into commandbus.key_hint (domain, key)
    select p_domain, t.key from unnest(p_keys, p_numbers) as t(key, number) group by t.key order by min(t.number)
$$;
