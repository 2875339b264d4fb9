-- Let go of the unique keys that were taken for commands of a domain which were not stored after all.
--
-- Called by send when some were refused otherwise, or proved to be duplicates. A claim stays if its command exists with this key: then somebody
-- else has sent it. A crash before COMMIT frees what was taken, too.
-- Locks: the claims that it deletes, which claim_unique has locked before in this transaction.
create or replace function commandbus.release_unique(p_domain text, p_commands jsonb)
returns void
language sql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
as $$
    delete from commandbus.unique_claim as u
    where u.unique_key = any (array(
            select c.value ->> 'unique_key' from jsonb_array_elements(p_commands) as c where c.value ->> 'domain' = p_domain))
      and u.domain = p_domain
      and u.command_id = any (array(
            select (c.value ->> 'command_id')::uuid from jsonb_array_elements(p_commands) as c where c.value ->> 'domain' = p_domain))
      and (select k.command_id from commandbus.command as k
           where k.command_id = u.command_id and k.domain = p_domain and k.unique_key = u.unique_key) is null
$$;
