-- Learn below which number a domain has no hint of a key and will have none: what narrow does for queues.
--
-- Called by promote_keys when it walked over many more hints than it found. Hints are numbered by a sequence, removed for good and never put back under an old
-- number, and all that are left are soon promoted: so one number is enough. It is kept in live_range, under the file of key_hint.
-- Locks and crashes as narrow.
create or replace function commandbus.narrow_hints(p_domain text)
returns void
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    c_sequence constant regclass := 'commandbus.key_hint_hint_no_seq';
    v_file oid := pg_relation_filenode('commandbus.key_hint');
    v_old commandbus.live_range;
    v_known record;
    v_first bigint := commandbus.first_hint(p_domain);
begin
    if current_setting('transaction_isolation') <> 'read committed'
       or not exists (select from pg_catalog.pg_sequence as s where s.seqrelid = c_sequence and s.seqcache = 1)
       or not pg_try_advisory_xact_lock(hashtextextended('mainstay.live_hint.' || p_domain, 0))
    then
        return;
    end if;
    v_old := commandbus.live_range_of(p_domain, 'commandbus.key_hint');
    if v_first = 0 then
        v_old := null;
    end if;
    v_known := commandbus.settle(c_sequence, 9223372036854775807, v_old);
    v_first := (
        select h.hint_no from commandbus.key_hint as h
        where h.domain = p_domain and h.hint_no >= v_first order by h.domain, h.hint_no limit 1);
    v_first := least(v_first, v_known.settled + 1);
    delete from commandbus.live_range as l where l.domain = p_domain and l.file = v_file and l.no = v_old.no;
    insert into commandbus.live_range (domain, file, ranges, settled, seen, senders, tried)
    values (p_domain, v_file, int8multirange(int8range(v_first, null)), v_known.settled, v_known.seen, v_known.senders, v_first);
end;
$$;
