-- What the idempotency certifier asks: questions about the tables of the program under test.

-- name: empty_everything
-- Make the database as new: no rows in the program's tables, no commands, no messages; the schema stays.
do $$
begin
    perform set_config('mainstay.may_empty', 'on', true);
    execute (
        select 'truncate ' || string_agg(format('%I.%I', t.schemaname, t.tablename), ', ') || ' restart identity cascade'
        from pg_tables as t
        where t.schemaname not in ('pg_catalog', 'information_schema', 'mainstay')
            and (t.schemaname, t.tablename) <> ('eventsource', 'feed_horizon')
            and (t.schemaname <> 'pgmq' or t.tablename like 'q\_%' or t.tablename like 'a\_%')
    );
end;
$$;

-- name: state_questions
-- For each table of the program, the question for its rows without the columns that are ignored: those that were named, and those that
-- the database fills by itself, with a number, a time or a random id. Of events what they say counts, and how many there are.
select format('%%I.%%I', c.table_schema, c.table_name) as name,
    format(
        'select coalesce(array_agg((to_jsonb(t) - %%L::text[])::text order by (to_jsonb(t) - %%L::text[])::text), ''{}'') from %%I.%%I as t',
        coalesce(array_agg(c.column_name::text) filter (where c.is_ignored), '{}'),
        coalesce(array_agg(c.column_name::text) filter (where c.is_ignored), '{}'),
        c.table_schema, c.table_name) as question
from (
    select k.table_schema, k.table_name, k.column_name,
        k.column_name = any (%(ignored)s::text[])
        or k.is_identity = 'YES'
        or k.table_schema = 'eventsource' and k.column_name not in ('version', 'event_version', 'payload', 'metadata', 'tags')
        or coalesce(k.column_default, '') ~* 'nextval|now\(|timestamp|random|uuid' as is_ignored
    from information_schema.columns as k
    join pg_tables as t on t.schemaname = k.table_schema and t.tablename = k.table_name
    where k.table_schema not in ('pg_catalog', 'information_schema', 'mainstay', 'commandbus', 'pgmq')
        and (k.table_schema <> 'eventsource' or k.table_name = 'event')
) as c
group by c.table_schema, c.table_name
order by 1;

-- name: terminate
-- End a server process.
select pg_terminate_backend(%(pid)s);
