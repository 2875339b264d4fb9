-- Where messages may be in a domain's queue, in ranges of message ids; no is null if nothing is known: they may be anywhere.
--
-- Called by receive and whatever else reads a queue from its beginning, by narrow and fsck. Locks nothing.
create or replace function commandbus.live_range_of(p_domain text, p_table regclass)
returns commandbus.live_range
language plpgsql stable
as $$
declare
    v_row commandbus.live_range;
begin
    select l.* into v_row from commandbus.live_range as l
    where l.domain = p_domain and l.file = pg_relation_filenode(p_table)
    order by l.domain desc, l.file desc, l.no desc
    limit 1;
    v_row.ranges := coalesce(v_row.ranges, int8multirange(int8range(-9223372036854775808, 9223372036854775807)));
    return v_row;
end;
$$;
