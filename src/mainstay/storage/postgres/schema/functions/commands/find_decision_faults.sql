-- What must never be of decisions: one row for each violation found.
--
-- Called by fsck with find_faults, in the same snapshot. Locks nothing. Reads all commands and decisions, and the events that they name.
-- Nothing but the ledger says of every command that it was decided on. Of one whose decider appended events and gave no reply of its own, its reply does.
create or replace function commandbus.find_decision_faults()
returns table (invariant text, domain text, command_id uuid, details jsonb)
language plpgsql stable
as $$
#variable_conflict use_column
begin
    return query
        select 'a decision is of a command that has completed or failed', d.domain, d.command_id,
               jsonb_build_object('subject_no', d.subject_no, 'status', c.status)
        from commandbus.decision as d
        left join commandbus.command as c
            on c.command_id = d.command_id and c.domain = d.domain and c.subject_no = d.subject_no
        where c.status is null or c.status not in ('COMPLETED', 'FAILED') or (c.status = 'FAILED' and d.events > 0);

    -- A handler that writes without an aggregate may answer so, too, but need not: then the finding is in vain.
    return query
        select 'a command answered with the version and position of its own event has its decision', c.domain, c.command_id,
               jsonb_build_object('reply', c.result)
        from commandbus.command as c
        join eventsource.event as e
            on e.position = case when jsonb_typeof(c.result) = 'object' and c.result ->> 'position' ~ '^\d{1,18}$'
                then (c.result ->> 'position')::bigint end
        where c.status = 'COMPLETED' and e.causation_id = c.command_id
          and c.result = jsonb_build_object('version', e.version, 'position', e.position)
          and not exists (select from commandbus.decision as d where d.subject_no = c.subject_no);

    -- An event may name another cause than its command, if the handler says so; but not another decision on the stream.
    return query
        select 'the events of a decision are in its stream, and of no other decision', d.domain, d.command_id,
               jsonb_build_object('stream', d.category || '/' || d.stream_id, 'version_read', d.version_read, 'events', d.events,
                                  'found', d.found, 'of_others', d.of_others, 'overlaps', d.overlaps)
        from (
            select o.*, coalesce(e.found, 0) as found, coalesce(e.of_others, 0) as of_others
            from (
                select
                    d.*,
                    coalesce(d.version_read < max(d.version_read + d.events) over (
                        partition by d.category, d.tenant_id, d.stream_id order by d.version_read, d.subject_no
                        rows between unbounded preceding and 1 preceding), false) as overlaps
                from commandbus.decision as d
                where d.events > 0
            ) as o
            left join eventsource.stream as s
                on s.category = o.category and s.tenant_id = o.tenant_id and s.stream_id = o.stream_id
            left join lateral (
                select
                    count(*) as found,
                    count(*) filter (where e.causation_id is null or (e.causation_id <> o.command_id and exists (
                        select from commandbus.command as c
                        join commandbus.decision as other on other.subject_no = c.subject_no
                        where c.command_id = e.causation_id and other.category = o.category and other.tenant_id = o.tenant_id
                          and other.stream_id = o.stream_id))) as of_others
                from eventsource.event as e
                where e.stream_no = s.stream_no and e.version > o.version_read and e.version <= o.version_read + o.events
            ) as e on true
        ) as d
        where d.found <> d.events or d.of_others > 0 or d.overlaps;
end;
$$;
