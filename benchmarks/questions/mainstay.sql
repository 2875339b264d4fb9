-- Is no command of mainstay ready or in hand? Completing one deletes its message in the same transaction. Asked where messages may be: reading
-- the whole table takes a while if a snapshot is held open.
select not exists (
    select from unnest((commandbus.live_range_of('bench', 'pgmq.q_bench__commands')).ranges) as r(ids)
    cross join lateral (
        select from pgmq.q_bench__commands as q where q.msg_id >= lower(r.ids) and q.msg_id < upper(r.ids) limit 1) as q);
