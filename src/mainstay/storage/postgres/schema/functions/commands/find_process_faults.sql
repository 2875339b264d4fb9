-- What must never be of processes: one row for each violation found.
--
-- Called by fsck with find_faults, in the same snapshot. Every move of a process is one COMMIT with the commands it sends and the
-- completion of the reply it takes, so all of this holds at any moment. Locks nothing. Reads all processes, steps and audit lines.
create or replace function commandbus.find_process_faults()
returns table (invariant text, domain text, command_id uuid, details jsonb)
language plpgsql stable
as $$
#variable_conflict use_column
begin
    return query
        select 'a step under way has a command or a reply on its way', s.domain, s.command_id,
               jsonb_build_object('process_id', s.process_id, 'step_no', s.step_no, 'status', c.status)
        from commandbus.process_step as s
        join commandbus.process as p on p.process_id = s.process_id
        left join commandbus.command as c on c.command_id = s.command_id and c.domain = s.domain
        where s.status = 'SENT'
          and (c.command_id is null or c.status in ('COMPLETED', 'FAILED', 'CANCELED'))
          and not exists (
              select from unnest(commandbus.reply_ids(s.command_id)) as r(id)
              join commandbus.command as a on a.command_id = r.id and a.domain = p.reply_domain
              where a.status not in ('COMPLETED', 'FAILED', 'CANCELED'));

    return query
        select 'a process is under way as long as one of its steps', p.domain, null::uuid,
               jsonb_build_object('process_id', p.process_id, 'status', p.status, 'completed_at', p.completed_at,
                                  'steps_under_way', coalesce(s.under_way, 0))
        from commandbus.process as p
        left join (
            select s.process_id, count(*) filter (where s.status = 'SENT') as under_way
            from commandbus.process_step as s group by s.process_id
        ) as s on s.process_id = p.process_id
        where (p.status in ('WAITING_FOR_REPLY', 'COMPENSATING')) <> (coalesce(s.under_way, 0) > 0)
           or (p.status in ('WAITING_FOR_REPLY', 'WAITING_FOR_EVENT', 'COMPENSATING')) <> (p.completed_at is null);

    return query
        select 'a process knows how many of its steps are under way', p.domain, null::uuid,
               jsonb_build_object('process_id', p.process_id, 'known', p.open_steps, 'steps_under_way', coalesce(s.under_way, 0))
        from commandbus.process as p
        left join (
            select s.process_id, count(*) as under_way from commandbus.process_step as s where s.status = 'SENT' group by s.process_id
        ) as s on s.process_id = p.process_id
        where p.open_steps <> coalesce(s.under_way, 0);

    return query
        with going as (
            select p.process_id, p.domain, p.last_done from commandbus.process as p
            where p.status in ('WAITING_FOR_REPLY', 'WAITING_FOR_EVENT')
        ), done as (
            select s.process_id, s.step_no, s.done_after from commandbus.process_step as s
            join going as g on g.process_id = s.process_id
            where s.status = 'SUCCESS' and s.undoes is null
        ), first_and_done as (
            select g.process_id, 0 as step_no from going as g
            union all
            select d.process_id, d.step_no from done as d
        ), followed as (
            select g.process_id, g.last_done as step_no from going as g
            union all
            select d.process_id, d.done_after from done as d
        )
        select 'what was done in a process is undone in turn, each step once', g.domain, null::uuid,
               jsonb_build_object('process_id', g.process_id, 'step_no', coalesce(t.step_no, f.step_no), 'times', count(f.process_id))
        from first_and_done as t
        full join followed as f on f.process_id = t.process_id and f.step_no = t.step_no
        join going as g on g.process_id = coalesce(t.process_id, f.process_id)
        group by g.process_id, g.domain, t.step_no, f.step_no
        having t.step_no is null or count(f.process_id) <> 1;

    return query
        select 'events belong to a process', null::text, null::uuid, jsonb_build_object('process_id', e.process_id, 'events', count(*))
        from commandbus.process_event as e
        where not exists (select from commandbus.process as p where p.process_id = e.process_id)
        group by e.process_id;

    return query
        select 'steps belong to a process, are numbered from one and undo an earlier one', min(s.domain), null::uuid,
               jsonb_build_object('process_id', s.process_id, 'steps', count(*), 'last', max(s.step_no), 'process', count(p.process_id))
        from commandbus.process_step as s
        left join commandbus.process as p on p.process_id = s.process_id
        group by s.process_id
        having min(s.step_no) <> 1 or max(s.step_no) <> count(*) or count(p.process_id) = 0 or bool_or(s.undoes >= s.step_no);

    return query
        with told as (
            select a.process_id,
                   count(*) as lines,
                   count(*) filter (where a.event_type = 'STARTED') as starts,
                   (array_agg(a.event_type order by a.audit_id))[1] as first_event,
                   count(*) filter (where a.event_type = 'STEP_SENT') as sent,
                   count(*) filter (where a.event_type in ('EVENT_TAKEN', 'EVENT_IGNORED')) as events,
                   count(distinct a.step_no) filter (
                       where a.event_type in ('STEP_SUCCEEDED', 'STEP_FAILED', 'STEP_CANCELED', 'STEP_TIMED_OUT')) as answered,
                   coalesce((array_agg(a.event_type order by a.audit_id desc) filter (where a.event_type in (
                       'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'CANCELED', 'FAILED')))[1], 'WAITING_FOR_REPLY') as becomes
            from commandbus.process_audit as a group by a.process_id
        ), done as (
            select s.process_id, count(*) as steps, count(*) filter (where s.status <> 'SENT') as answered
            from commandbus.process_step as s group by s.process_id
        ), heard as (
            select e.process_id, count(*) as events from commandbus.process_event as e group by e.process_id
        )
        select 'the audit trail of a process tells each step and ends at its status', p.domain, null::uuid,
               jsonb_build_object('process_id', coalesce(p.process_id, t.process_id), 'status', p.status, 'told', t.becomes,
                                  'steps', d.steps, 'steps_told', t.sent, 'answered', d.answered, 'answers_told', t.answered,
                                  'events', h.events, 'events_told', t.events)
        from commandbus.process as p
        full join told as t on t.process_id = p.process_id
        left join done as d on d.process_id = p.process_id
        left join heard as h on h.process_id = coalesce(p.process_id, t.process_id)
        where (p.process_id is null or t.process_id is null or t.starts <> 1 or t.first_event <> 'STARTED'
               or t.becomes <> case p.status when 'WAITING_FOR_EVENT' then 'WAITING_FOR_REPLY' else p.status end
               or t.events <> coalesce(h.events, 0)
               or t.sent <> coalesce(d.steps, 0) or t.answered <> coalesce(d.answered, 0))
          and (p.pruned_at is null or t.process_id is not null);
end;
$$;
