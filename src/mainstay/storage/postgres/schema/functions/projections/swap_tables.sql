-- Let new tables have the names of old ones, with the rights that were granted on those. The old ones are dropped, or if p_kept is given, renamed to that.
--
-- Locks all of them against readers and writers, until the transaction ends. While it waits for a lock every new reader would wait behind it; so it waits
-- for a moment, lets all go, and tries again, for about half a minute, and then raises 55P03. Indexes of the new tables get the names they would have
-- had. Raises what refuse_dependents does, and 42P07 if a name to keep an old one under is taken. A crash before the COMMIT leaves all as it was.
create or replace function eventsource.swap_tables(p_tables text[], p_new text[], p_kept text[])
returns void
language plpgsql volatile
as $$
declare
    v_old regclass[] := (select array_agg(t::regclass order by n) from unnest(p_tables) with ordinality as u(t, n));
    v_new regclass[] := (select array_agg(t::regclass order by n) from unnest(p_new) with ordinality as u(t, n));
    v_names text[] := (select array_agg(c.relname::text order by n)
                       from unnest(v_old) with ordinality as u(t, n) join pg_class as c on c.oid = u.t);
    v_besides text[] := (select array_agg(c.relname::text order by n)
                         from unnest(v_new) with ordinality as u(t, n) join pg_class as c on c.oid = u.t);
    v_timeout text := current_setting('lock_timeout');
    v_parts text[];
    v_found record;
begin
    for v_try in 1..60 loop
        begin
            perform set_config('lock_timeout', '200ms', true);
            execute format(
                'lock table %s in access exclusive mode',
                (select string_agg(t::text, ', ' order by t) from unnest(v_old || v_new) as t));
            exit;
        exception when lock_not_available then
            if v_try = 60 then
                raise exception 'the tables % are in use: a transaction that reads or writes them is open for long',
                    array_to_string(p_tables, ', ') using errcode = '55P03';
            end if;
        end;
        perform pg_sleep(0.3);
    end loop;
    perform set_config('lock_timeout', v_timeout, true);
    perform eventsource.refuse_dependents(p_tables);

    for i in 1..cardinality(v_old) loop
        for v_found in
            select a.grantee, a.privilege_type, a.is_grantable
            from pg_class as c, aclexplode(c.relacl) as a
            where c.oid = v_old[i] and a.grantee <> c.relowner
        loop
            execute format(
                'grant %s on %s to %s%s', v_found.privilege_type, v_new[i],
                case v_found.grantee when 0 then 'public' else v_found.grantee::regrole::text end,
                case when v_found.is_grantable then ' with grant option' else '' end);
        end loop;
        if p_kept is not null then
            if to_regclass(p_kept[i]) is not null then
                raise exception 'there is a table % already, kept by an earlier rebuild: drop it, or keep none', p_kept[i]
                    using errcode = '42P07';
            end if;
            v_parts := parse_ident(p_kept[i]);
            for v_found in select x.indexrelid::regclass as index, c.relname from pg_index as x join pg_class as c on c.oid = x.indexrelid
                           where x.indrelid = v_old[i]
            loop
                execute format('alter index %s rename to %I', v_found.index, left(v_found.relname, 58) || '__old');
            end loop;
            execute format('alter table %s rename to %I', v_old[i], v_parts[cardinality(v_parts)]);
        end if;
    end loop;
    if p_kept is null then
        execute format('drop table %s', (select string_agg(t::text, ', ') from unnest(v_old) as t));
    end if;
    for i in 1..cardinality(v_new) loop
        execute format('alter table %s rename to %I', v_new[i], v_names[i]);
        for v_found in
            select x.indexrelid::regclass as index, v_names[i] || substr(c.relname, length(v_besides[i]) + 1) as name, c.relnamespace
            from pg_index as x join pg_class as c on c.oid = x.indexrelid
            where x.indrelid = v_new[i] and starts_with(c.relname, v_besides[i])
        loop
            if not exists (select from pg_class as c where c.relname = v_found.name and c.relnamespace = v_found.relnamespace) then
                execute format('alter index %s rename to %I', v_found.index, v_found.name);
            end if;
        end loop;
    end loop;
end;
$$;
