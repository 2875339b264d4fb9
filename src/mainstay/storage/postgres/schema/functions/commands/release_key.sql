-- Let a key go on although its head has not ended: an operator's decision. The command stays where it is.
--
-- Called by KeyStore.release. Returns the head and the status that it was found in, and whether the key goes on; no row if the key has no head.
-- Only a head that waits, in troubleshooting, for its next attempt or for a breaker, is passed by: one that is ready or in progress would run beside
-- the next. If it comes back later, it gets in line under its old number, so before all that still wait.
-- Locks: the head's command row, so that nobody brings it back meanwhile; then the head. A crash before COMMIT leaves the key as it was.
create or replace function commandbus.release_key(p_domain text, p_key text, p_operator text, p_reason text)
returns table (command_id uuid, status text, is_released boolean)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_head commandbus.key_head;
    v_command commandbus.command;
begin
    select h.* into v_head from commandbus.key_head as h where h.key = p_key and h.domain = p_domain;
    if not found then
        return;
    end if;
    select c.* into v_command from commandbus.command as c
    where c.command_id = v_head.command_id and c.domain = p_domain
    for update;
    if v_command.status = 'IN_TROUBLESHOOTING_QUEUE' or (v_command.status = 'PENDING' and (v_command.due_at is not null or exists (
        select from commandbus.parked as p
        where p.command_id = v_command.command_id and p.domain = p_domain and p.held_by is not null)))
    then
        delete from commandbus.key_head as h
        where h.key = p_key and h.domain = p_domain and h.command_id = v_head.command_id;
        if found then
            insert into commandbus.key_hint (domain, key) values (p_domain, p_key);
            insert into commandbus.audit (subject_no, event_type, details)
            values (v_command.subject_no, 'KEY_RELEASED', jsonb_strip_nulls(jsonb_build_object(
                'operator', p_operator, 'reason', p_reason)));
            perform commandbus.note_deed(
                'KEY', p_domain || '/' || p_key, 'RELEASED', jsonb_build_object('domain', p_domain, 'command_id', v_head.command_id),
                p_operator, p_reason);
            return query select v_head.command_id, v_command.status, true;
            return;
        end if;
    end if;
    return query select v_head.command_id, v_command.status, false;
end;
$$;
