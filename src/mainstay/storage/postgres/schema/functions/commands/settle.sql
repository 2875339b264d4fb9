-- Up to which number of a sequence everything is committed or never will be.
--
-- Called by narrow and narrow_hints under the lock of the ranges, with what was known (p_old) and the number that is needed: nobody is asked if that is
-- settled already. What the caller reads in a later statement has all of it.
--
-- Who draws a number locks the sequence until its transaction ends (nextval does, whoever calls it, for the whole transaction, also in a
-- savepoint that is rolled back, also when prepared). So: read the sequence, *then* who holds that lock. When none of those holds it any
-- more, the numbers read then are settled; if none holds it now, they are settled at once. A transaction that is prepared changes its
-- name in pg_locks, at the latest when the server starts again; while there is such a one nothing new is settled. The caller's own transaction is not asked: it sees what it wrote.
create or replace function commandbus.settle(
    p_sequence regclass, p_needed bigint, p_old commandbus.live_range, out settled bigint, out seen bigint, out senders text[])
language plpgsql volatile
as $$
begin
    if p_old.settled < p_needed or p_old.no is null then
        seen := coalesce(pg_sequence_last_value(p_sequence), 0);
        select coalesce(array_agg(k.virtualtransaction), '{}') into senders
        from pg_catalog.pg_locks as k
        where k.locktype = 'relation' and k.relation = p_sequence and k.mode = 'RowExclusiveLock'
          and k.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
          and k.pid is distinct from pg_backend_pid();
        if senders = '{}' then
            settled := seen;
            return;
        elsif p_old.no is null then
            settled := 0;
            return;
        elsif not (senders && p_old.senders or exists (select from unnest(senders) as s where s like '-%')) then
            settled := p_old.seen;
            return;
        end if;
    end if;
    settled := p_old.settled;
    seen := p_old.seen;
    senders := p_old.senders;
end;
$$;
