-- The commands of conversations, in the order in which they were sent, at most p_limit of them; each with when it was first and when it was last received.
--
-- Called for `mainstay trace`, and by anything that can call SQL. The index has no entry for each command but a filter for each few pages (decision 30),
-- which the planner may take for worthless: its plan is forbidden to read the whole table instead. What was written last, and is in no filter yet, is read whole.
-- Locks nothing.
create or replace function commandbus.conversation(p_correlation_ids uuid[], p_limit integer)
returns table (command commandbus.command, first_received timestamptz, last_received timestamptz)
language sql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
    select f.command, r.first, r.last
    from (
        select m.command
        from (
            select c as command, c.created_at, c.subject_no from commandbus.command as c
            where c.correlation_id = any (p_correlation_ids)
            offset 0  -- so that nobody walks the whole index of times for their order
        ) as m
        order by m.created_at, m.subject_no
        limit p_limit
    ) as f
    left join lateral (
        select min(a.ts) as first, max(a.ts) as last from commandbus.audit as a
        where a.subject_no = (f.command).subject_no and a.event_type = 'RECEIVED'
    ) as r on true
    order by (f.command).created_at, (f.command).subject_no;
$$;
