-- Park commands for the breakers of what their errors say, and take back so many attempts.
--
-- Called under the domain's lock by hold_failures and hold_due, which took them out of where they were. Locks command rows in the order of
-- ids; the caller has them, or holds what leads to them.
create or replace function commandbus.hold(p_domain text, p_command_ids uuid[], p_attempts integer)
returns void
language sql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
as $$
    with moved as (
        update commandbus.command as c
        set status = 'PENDING', attempts = c.attempts - p_attempts, msg_id = null, due_at = null, updated_at = clock_timestamp()
        from (select t.id from unnest(p_command_ids) as t(id) order by t.id) as given
        where c.command_id = any (array[given.id]) and c.domain || '' = p_domain
          and c.status in ('PENDING', 'IN_TROUBLESHOOTING_QUEUE')
        returning c.command_id, c.subject_no, c.command_type, c.updated_at, c.expires_at, commandbus.fingerprint(c.error_message) as fingerprint
    ), audited as (
        insert into commandbus.audit (subject_no, event_type, ts, details)
        select m.subject_no, 'PARKED', m.updated_at, jsonb_build_object('reason', 'BREAKER', 'fingerprint', m.fingerprint)
        from moved as m
    )
    insert into commandbus.parked (command_id, domain, command_type, held_by, reason, since, expires_at)
    select m.command_id, p_domain, m.command_type, m.fingerprint, 'BREAKER', m.updated_at, m.expires_at from moved as m
$$;
