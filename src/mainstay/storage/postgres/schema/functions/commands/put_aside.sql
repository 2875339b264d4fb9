-- What follows from a failure that is not final: a due time for another attempt, or the troubleshooting queue; with the audit of both.
--
-- Called by complete, after it wrote the command rows and FAILED into the audit, with its outcomes and the ids of those that are
-- to be tried again and of those that an operator must see. Inserts only; nobody waits for it, but in domains that have breakers: see hold_failures,
-- which parks some of them instead.
create or replace function commandbus.put_aside(p_domain text, p_outcomes jsonb, p_retried uuid[], p_troubled uuid[])
returns void
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_held uuid[];
begin
    if exists (select from commandbus.breaker_rule as r where r.domain = p_domain) then
        v_held := commandbus.hold_failures(p_domain, p_outcomes, p_retried || p_troubled);
        p_retried := nullif(array(select t.id from unnest(p_retried) as t(id) where t.id <> all (v_held)), '{}');
        p_troubled := nullif(array(select t.id from unnest(p_troubled) as t(id) where t.id <> all (v_held)), '{}');
    end if;
    insert into commandbus.audit (subject_no, event_type, ts, details)
    select f.subject_no, e.event_type, f.updated_at, e.details
    from (
        select c.subject_no, c.command_id, c.updated_at, c.due_at, o.verb, o.delay, o.error_type, o.error_code,
            coalesce(o.exhausted, false) as exhausted
        from jsonb_to_recordset(p_outcomes) as o(
            command_id uuid, verb text, error_type text, error_code text, delay double precision, exhausted boolean)
        join commandbus.command as c on c.command_id = any (array[o.command_id]) and c.domain || '' = p_domain
        where o.command_id = any (p_retried || p_troubled)
        offset 0
    ) as f
    cross join lateral (
        select 2 as n, 'RETRY_SCHEDULED' as event_type, jsonb_build_object('delay', f.delay, 'due_at', f.due_at) as details
        where f.verb = 'RETRY'
        union all
        select 2, 'RETRY_EXHAUSTED', null where f.verb = 'TROUBLESHOOT' and f.exhausted
        union all
        select 3, 'MOVED_TO_TSQ', jsonb_build_object(
            'reason', case when f.exhausted then 'EXHAUSTED' else f.error_type end, 'error_code', f.error_code)
        where f.verb = 'TROUBLESHOOT'
    ) as e
    order by f.command_id, e.n;

    if p_retried is not null then
        insert into commandbus.deferred (command_id, domain, due_at)
        select c.command_id, p_domain, c.due_at
        from unnest(p_retried) as t(id)
        join commandbus.command as c on c.command_id = any (array[t.id]) and c.domain || '' = p_domain;
    end if;
    if p_troubled is not null then
        perform commandbus.troubleshoot(p_domain, p_troubled);
    end if;
end;
$$;
