-- Let a command wait in exactly one place again, or in none if it does not wait.
--
-- Called by repair, for one command that fsck found. Everything is looked at again under the locks; what a worker, an operator or another
-- repair has settled meanwhile is left alone. Returns what was done, in words; null if nothing was wrong any more.
--
-- PENDING: a message that is gone from the queue is put back under its own id; a command that waits nowhere is made ready, or deferred until
-- it is due; one that waits twice stays in the queue if it is there.
-- One whose trail says that it has ended is left as it is: to handle it again might do everything twice, and only a person can tell what is true.
-- IN_PROGRESS: a message is put back, leased for a minute: a living worker renews it, a dead one's command runs again.
-- Everything else waits nowhere: its message goes to the archive.
--
-- Locks: the queue row, deferred, keyed and parked rows, then the command row, as everybody does; last the queue's ranges, see narrow. Whoever moves a command holds its row, so
-- what is seen under that lock stays; if it is not what was locked before, somebody was quicker, and nothing is done.
create or replace function commandbus.repair_place(p_domain text, p_command_id uuid)
returns text
language plpgsql volatile
as $$
declare
    v_queue text := p_domain || '__commands';
    v_table regclass := commandbus.queue_table(v_queue);
    v_command commandbus.command;
    v_seen bigint;
    v_before text[];
    v_places text[];
    v_keeps text;
    v_is_head boolean;
begin
    select c.msg_id into v_seen from commandbus.command as c where c.command_id = p_command_id and c.domain = p_domain;
    execute format('select from %s as q where q.msg_id = $1 for update', v_table) using v_seen;
    perform from commandbus.deferred as d where d.command_id = p_command_id and d.domain = p_domain for update;
    perform from commandbus.keyed as k
    where k.domain = p_domain and (k.key, k.subject_no) = (
        select c.key, c.subject_no from commandbus.command as c where c.command_id = p_command_id and c.domain = p_domain)
    for update;
    perform from commandbus.parked as p where p.command_id = p_command_id and p.domain = p_domain for update;
    v_before := commandbus.waits_in(p_domain, p_command_id);
    select c.* into v_command from commandbus.command as c
    where c.command_id = p_command_id and c.domain = p_domain
    for update;
    v_places := commandbus.waits_in(p_domain, p_command_id);
    if v_command.command_id is null or v_command.msg_id is distinct from v_seen or v_places <> v_before then
        return null;
    end if;
    if v_places = '{}' and v_command.status in ('PENDING', 'IN_PROGRESS') and (
        select a.event_type from commandbus.audit as a
        where a.subject_no = v_command.subject_no and a.event_type not in ('STALE_REFUSED', 'REPAIRED') order by a.audit_id desc limit 1
    ) in ('COMPLETED', 'BUSINESS_RULE_FAILED', 'CANCELED', 'OPERATOR_COMPLETE', 'OPERATOR_CANCEL') then
        return null;
    end if;

    v_keeps := case
        when v_command.status = 'IN_PROGRESS' then 'QUEUE'
        when v_command.status <> 'PENDING' then 'NONE'
        when v_command.due_at > clock_timestamp() then 'DEFERRED'
        when v_command.msg_id is not null or v_places = '{}' then 'QUEUE'
        when 'PARKED' = any (v_places) then 'PARKED'
        when 'KEYED' = any (v_places) then 'KEYED'
        else 'DEFERRED' end;
    if v_places = array_remove(array[v_keeps], 'NONE') and (v_command.msg_id is null) = (v_keeps <> 'QUEUE') then
        return null;
    end if;

    if v_keeps <> 'QUEUE' then
        if 'QUEUE' = any (v_places) then
            perform pgmq.archive(v_queue, v_seen);
        end if;
        update commandbus.command as c set msg_id = null where c.command_id = p_command_id and c.domain = p_domain;
    end if;
    delete from commandbus.deferred as d where d.command_id = p_command_id and d.domain = p_domain and v_keeps <> 'DEFERRED';
    delete from commandbus.keyed as k
    where k.domain = p_domain and k.key = v_command.key and k.subject_no = v_command.subject_no and v_keeps <> 'KEYED';
    delete from commandbus.parked as p where p.command_id = p_command_id and p.domain = p_domain and v_keeps <> 'PARKED';

    if v_keeps = 'NONE' then
        return 'it does not wait any more: it is taken out of where it waited';
    elsif v_keeps = any (v_places) then
        return 'it is ' || lower(replace(v_keeps, 'QUEUE', 'in the queue')) || ': it is taken out of where else it waited';
    elsif v_keeps = 'DEFERRED' then
        insert into commandbus.deferred (command_id, domain, due_at) values (p_command_id, p_domain, v_command.due_at);
        return 'it waits until it is due again';
    elsif v_command.status = 'PENDING' and v_seen is null then
        select h.command_id = p_command_id into v_is_head from commandbus.key_head as h
        where h.key = v_command.key and h.domain = p_domain;
        perform commandbus.make_ready(p_domain, array[p_command_id], coalesce(v_is_head, false));
        return 'it waited nowhere: it is ready again, or in the line of its key';
    end if;

    v_seen := coalesce(v_seen, commandbus.next_msg_id(v_queue, v_command.priority));
    update commandbus.command as c set msg_id = v_seen
    where c.command_id = p_command_id and c.domain = p_domain and c.msg_id is null;
    perform commandbus.forget_live_range(p_domain);
    perform commandbus.put_messages(v_queue, array[v_seen], array[commandbus.message(
        v_command.domain, v_command.command_type, v_command.command_id, v_command.correlation_id, v_command.data,
        v_command.reply_to)], array[v_command.headers]);
    if v_command.status = 'IN_PROGRESS' then
        execute format('update %s set read_ct = 1, vt = clock_timestamp() + interval ''1 minute'' where msg_id = $1', v_table)
        using v_seen;
        return 'its message is in the queue again, leased for a minute: it runs again if its worker is gone';
    end if;
    return 'its message is in the queue again';
end;
$$;
