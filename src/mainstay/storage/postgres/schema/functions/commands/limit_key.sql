-- What max_running_per counts a command under: a field of its payload, a.b for one inside another, or header:NAME.
--
-- Called by whatever parks, starts or counts commands with a limit. All commands without that field count together.
create or replace function commandbus.limit_key(p_per text, p_data jsonb, p_headers jsonb)
returns text
language sql immutable
as $$
    select coalesce(left(case
        when p_per is null then ''
        when p_per like 'header:%' then p_headers ->> substr(p_per, 8)
        else p_data #>> string_to_array(p_per, '.')
    end, 500), '')
$$;
