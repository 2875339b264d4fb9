-- What must never be of events: one row for each violation found.
--
-- Called by fsck with find_faults, in the same snapshot. Locks nothing. Reads all events and streams.
create or replace function eventsource.find_event_faults()
returns table (invariant text, details jsonb)
language plpgsql stable
as $$
#variable_conflict use_column
begin
    return query
        select 'the events of a stream are numbered from one, in the order of their positions',
               jsonb_build_object('stream', coalesce(s.category || '/' || s.stream_id, e.stream_no::text),
                                  'version', s.version, 'events', e.events)
        from (
            select w.stream_no, count(*) as events, bool_and(w.version = w.n) as in_order
            from (
                select e.stream_no, e.version, row_number() over (partition by e.stream_no order by e.position) as n
                from eventsource.event as e
            ) as w
            group by w.stream_no
        ) as e
        full join eventsource.stream as s on s.stream_no = e.stream_no
        where coalesce(s.version, -1) <> coalesce(e.events, 0) or not coalesce(e.in_order, true)
           or (s.version > 0 and s.created_at is null);

    return query
        select 'an event is of a kind, in the category of its stream', jsonb_build_object('position', e.position, 'kind_no', e.kind_no)
        from eventsource.event as e
        join eventsource.stream as s on s.stream_no = e.stream_no
        left join eventsource.kind as k on k.kind_no = e.kind_no
        where k.category is distinct from s.category;

    return query
        select 'an event is found by its tags, and by no others', jsonb_build_object('position', coalesce(e.position, t.position), 'tag', coalesce(e.tag, t.tag))
        from (select e.position, g.tag collate "C" as tag from eventsource.event as e cross join unnest(e.tags) as g(tag)) as e
        full join eventsource.event_tag as t on t.position = e.position and t.tag = e.tag
        where e.position is null or t.position is null;

    return query
        select 'the events of a tombstoned stream are empty, and no others', jsonb_build_object('position', e.position)
        from eventsource.event as e
        join eventsource.stream as s on s.stream_no = e.stream_no
        where (s.tombstoned_at is not null) <> (e.payload is null);

    return query
        select 'positions are drawn before they are used or published',
               jsonb_build_object('drawn', p.drawn, 'last', p.last, 'published', p.published)
        from (
            select
                (select max(e.position) from eventsource.event as e) as last,
                (select h.position from eventsource.feed_horizon as h where h.only_one) as published,
                coalesce(pg_sequence_last_value('eventsource.event_position'), 0) as drawn
        ) as p
        where p.last > p.drawn or p.published is null or p.published > p.drawn;
end;
$$;
