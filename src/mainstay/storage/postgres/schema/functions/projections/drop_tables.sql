-- Drop tables, as far as they are there. Locks them against all others until the transaction ends.
create or replace function eventsource.drop_tables(p_tables text[])
returns void
language plpgsql volatile
as $$
begin
    for i in 1..cardinality(p_tables) loop
        execute format('drop table if exists %s', (select string_agg(quote_ident(n), '.') from unnest(parse_ident(p_tables[i])) as n));
    end loop;
end;
$$;
