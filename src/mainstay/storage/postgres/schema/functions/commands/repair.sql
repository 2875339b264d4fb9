-- Mend one thing that fsck found, if that is safe.
--
-- Called by fsck --repair, in a transaction for each finding. p_details is that of the finding. Everything is looked at again under the
-- locks, so that beside live workers nothing healthy is touched. Returns what was done, in words; null if nothing is wrong any more, or
-- if mending it takes a person. What was done to a command or batch is audited as REPAIRED, under p_operator.
--
-- Locks: queue and deferred rows, then the command row; or the batch row; or the process row; or the claim to a unique key. Raises MS001 (detail: the queue) if a queue that is needed is gone.
create or replace function commandbus.repair(
    p_invariant text, p_domain text, p_command_id uuid, p_details jsonb, p_operator text)
returns text
language plpgsql volatile
as $$
declare
    v_command commandbus.command;
    v_batch_id uuid := (p_details ->> 'batch_id')::uuid;
    v_subject_no bigint;
    v_did text;
    v_found boolean;
begin
    case p_invariant
        when 'a message in the queue has its command' then
            execute format('select true from %s where msg_id = $1 for update', commandbus.queue_table(p_domain || '__commands'))
            using (p_details ->> 'msg_id')::bigint into v_found;
            if v_found then
                select c.* into v_command from commandbus.command as c
                where c.command_id = p_command_id and c.domain = p_domain
                for update;
                if v_command.status = 'PENDING' and v_command.msg_id is null and v_command.due_at is null and v_command.key is null then
                    v_did := null;  -- that message is its own: receive takes it, or a repair of the command makes another
                elsif v_command.status is null or v_command.status not in ('PENDING', 'IN_PROGRESS')
                    or v_command.msg_id is distinct from (p_details ->> 'msg_id')::bigint
                then
                    perform commandbus.settle_strays(p_domain, array[(p_details ->> 'msg_id')::bigint]);
                    v_did := case
                        when v_command.status is null then 'its message became a command in the troubleshooting queue'
                        else 'the message, which is not its own, went to the archive' end;
                end if;
            end if;
        when 'a message in the queue is where receivers look' then
            perform commandbus.forget_live_range(p_domain);
            execute format('select true from %s where msg_id = $1', commandbus.queue_table(p_domain || '__commands'))
            using (p_details ->> 'msg_id')::bigint into v_found;
            v_did := case when v_found then 'receivers look everywhere again' end;
        when 'a command with a message id has that message', 'a pending command waits in exactly one place' then
            v_did := commandbus.repair_place(p_domain, p_command_id);
        when 'the deferred and parked tables name commands' then
            if not exists (select from commandbus.command as c where c.command_id = p_command_id and c.domain = p_domain) then
                delete from commandbus.deferred as d where d.command_id = p_command_id and d.domain = p_domain;
                v_found := found;
                delete from commandbus.parked as p where p.command_id = p_command_id and p.domain = p_domain;
                v_did := case when v_found or found then 'the row that stands for no command is deleted' end;
            end if;
        when 'what a breaker holds has its breaker' then
            perform commandbus.lock_breakers(p_domain);
            perform from commandbus.parked as p
            where p.command_id = p_command_id and p.domain = p_domain and p.held_by is not null and not exists (
                select from commandbus.breaker as b
                join commandbus.breaker_rule as r on r.domain = b.domain and r.command_type = b.command_type
                join commandbus.breaker_rule as o on o.domain = b.domain and o.command_type = ''
                where b.domain = p.domain and b.command_type = p.command_type and b.fingerprint = p.held_by)
            for update;
            if found then
                perform commandbus.release_held(p_domain, array[p_command_id], null);
                v_did := 'it is ready again';
            end if;
        when 'the keyed table names commands' then
            delete from commandbus.keyed as k
            where k.domain = p_domain and k.key = p_details ->> 'key' and k.command_id = p_command_id and not exists (
                select from commandbus.command as c
                where c.command_id = k.command_id and c.domain = k.domain and c.key = k.key and c.subject_no = k.subject_no);
            v_did := case when found then 'the row of no command is deleted from the line of its key' end;
        when 'a key whose commands wait has a head or a hint' then
            insert into commandbus.key_hint (domain, key) values (p_domain, p_details ->> 'key');
            v_did := 'the next receive looks whose turn it is';
        when 'the head of a key is a command that has not ended' then
            delete from commandbus.key_head as h
            where h.key = p_details ->> 'key' and h.domain = p_domain and h.command_id = p_command_id and not exists (
                select from commandbus.command as c
                where c.command_id = h.command_id and c.domain = h.domain and c.key = h.key and c.subject_no = h.subject_no
                  and c.status not in ('COMPLETED', 'FAILED', 'CANCELED'));
            if found then
                insert into commandbus.key_hint (domain, key) values (p_domain, p_details ->> 'key');
                v_did := 'its key goes on with the next command';
            end if;
        when 'a unique key is claimed by a command of that key' then
            delete from commandbus.unique_claim as u
            where u.domain = p_domain and u.unique_key = p_details ->> 'unique_key' and u.command_id = p_command_id and not exists (
                select from commandbus.command as c
                where c.command_id = u.command_id and c.domain = u.domain and c.unique_key = u.unique_key);
            v_did := case when found then 'the claim of no command is deleted' end;
        when 'a command that has not ended holds its unique key' then
            insert into commandbus.unique_claim as u (domain, unique_key, command_id)
            select c.domain, c.unique_key, c.command_id from commandbus.command as c
            where c.command_id = p_command_id and c.domain = p_domain and c.unique_key is not null
              and c.status not in ('COMPLETED', 'FAILED', 'CANCELED')
            on conflict (unique_key, domain) do update set command_id = u.command_id where false;  -- only locks it
            v_found := found;
            update commandbus.unique_claim as u set command_id = p_command_id, held_until = null
            where u.domain = p_domain and u.unique_key = p_details ->> 'unique_key' and u.command_id <> p_command_id
              and not commandbus.holds_unique(u.domain, u.command_id, u.held_until, null, clock_timestamp());
            v_did := case when v_found or found then 'it holds its unique key again' end;
        when 'the troubleshooting table equals the commands in troubleshooting' then
            select c.* into v_command from commandbus.command as c
            where c.command_id = p_command_id and c.domain = p_domain
            for update;
            v_found := exists (
                select from commandbus.troubleshooting as t where t.command_id = p_command_id and t.domain = p_domain);
            if v_command.status = 'IN_TROUBLESHOOTING_QUEUE' and not v_found then
                perform commandbus.troubleshoot(p_domain, array[p_command_id]);
                v_did := 'it is listed for operators';
            elsif v_command.status is distinct from 'IN_TROUBLESHOOTING_QUEUE' and v_found then
                delete from commandbus.troubleshooting as t where t.command_id = p_command_id and t.domain = p_domain;
                v_did := 'it is listed for operators no more';
            end if;
        when 'a terminal command has answered who asked' then
            select c.* into v_command from commandbus.command as c
            where c.command_id = p_command_id and c.domain = p_domain
            for update;
            if v_command.status in ('COMPLETED', 'FAILED', 'CANCELED') and v_command.reply_to is not null
               and v_command.reply_msg_id is null
            then
                perform commandbus.reply(p_domain, array[p_command_id]);
                v_did := 'its reply is sent';
            end if;
        when 'a decision is of a command that has completed or failed' then
            delete from commandbus.decision as d
            where d.subject_no = (p_details ->> 'subject_no')::bigint and not exists (
                select from commandbus.command as c
                where c.command_id = d.command_id and c.domain = d.domain and c.subject_no = d.subject_no);
            v_did := case when found then 'the decision of no command is deleted' end;
        when 'a step under way has a command or a reply on its way' then
            v_did := commandbus.repair_step((p_details ->> 'process_id')::uuid, (p_details ->> 'step_no')::integer);
        when 'the counts of an action recount', 'items belong to an action' then
            v_did := commandbus.repair_action((p_details ->> 'action_id')::uuid);
        when 'a finished batch has sent its completion command', 'the counts of a batch recount', 'deltas and parts belong to a batch',
             'a batch that can end has ended, or is looked at again' then
            v_did := commandbus.repair_batch(p_domain, v_batch_id);
        else
            return null;
    end case;

    if v_did is not null then
        select c.subject_no into v_subject_no from commandbus.command as c
        where c.command_id = p_command_id and c.domain = p_domain and v_batch_id is null;
        if v_batch_id is not null then
            select b.subject_no into v_subject_no from commandbus.batch as b where b.batch_id = v_batch_id and b.domain = p_domain;
        end if;
        if v_subject_no is not null then
            insert into commandbus.audit (subject_no, event_type, details)
            values (v_subject_no, 'REPAIRED', jsonb_build_object('fault', p_invariant, 'did', v_did, 'operator', p_operator));
        end if;
    end if;
    return v_did;
end;
$$;
