-- commandbus.promote_keys, written naively: the lowest number is read before the key is locked, in one statement with it. For the test
-- that shows what goes wrong: while the head is inserted, this waits for a promoter before us, whose command may be done by
-- then; our snapshot still shows it waiting.
create or replace function commandbus.promote_keys(p_domain text, p_limit integer)
returns integer
language plpgsql volatile
as $$
declare
    v_ids uuid[];
begin
    with hints as (
        delete from commandbus.key_hint as h where h.hint_no = any (array(
            select k.hint_no from commandbus.key_hint as k where k.domain = p_domain limit p_limit for update skip locked))
        returning h.key
    ), headed as (
        insert into commandbus.key_head (key, domain, subject_no, command_id)
        select distinct on (w.key) w.key, w.domain, w.subject_no, w.command_id
        from commandbus.keyed as w where w.domain = p_domain and w.key in (select h.key from hints as h)
        order by w.key, w.subject_no
        on conflict do nothing
        returning key, subject_no, command_id
    ), gone as (
        delete from commandbus.keyed as w using headed as h where w.key = h.key and w.subject_no = h.subject_no
    )
    select array_agg(h.command_id) into v_ids from headed as h;
    return (select count(*) from commandbus.make_ready(p_domain, v_ids, true));
end;
$$;
