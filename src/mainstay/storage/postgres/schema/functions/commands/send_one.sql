-- Put one plain command in, COMMIT, and wake a worker. Plain: it waits for no time and no turn, has no unique key, counts in no batch and asks
-- for no reply.
--
-- Called by CommandBus.send without a caller's connection. Does for one command what send and wake do for many, as plain statements and as one
-- call: less than half the cost, and who sends one by one pays it for each. A procedure, because the question for sleepers must come after the
-- COMMIT (see wake); so it cannot be called in a transaction block. Gives the message's id; null if the command's id is known: nothing is
-- changed then.
-- Raises MS001 (detail: the queue) if there is no queue, and 55P03 if it had to wait for a transaction that sends the same id and is still open:
-- the caller sends again with send, where nobody waits with it.
-- Locks: as send, only what it inserts. A crash before the COMMIT leaves nothing but a number drawn; after it, a worker that sleeps until it polls.
create or replace procedure commandbus.send_one(
    p_domain text, p_command_type text, p_command_id uuid, p_data jsonb, p_correlation_id uuid, p_max_attempts integer, p_headers jsonb,
    p_priority integer, inout p_msg_id bigint)
language plpgsql
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_queue text := 'q_' || p_domain || '__commands';
    v_sequence regclass := to_regclass(format('pgmq.%I', v_queue || '_msg_id_seq'));
    v_subject_no bigint;
begin
    set local lock_timeout = '100ms';
    if v_sequence is null then
        perform commandbus.queue_table(p_domain || '__commands');
    end if;
    p_msg_id := commandbus.place(nextval(v_sequence), p_priority);
    insert into commandbus.command as c (
        command_id, domain, command_type, max_attempts, msg_id, correlation_id, created_at, updated_at, data, headers, priority)
    values (
        p_command_id, p_domain, p_command_type, p_max_attempts, p_msg_id, p_correlation_id, v_now, v_now, p_data, p_headers, p_priority)
    on conflict do nothing
    returning c.subject_no into v_subject_no;
    if not found then
        p_msg_id := null;
        return;
    end if;
    insert into commandbus.audit (subject_no, event_type, ts) values (v_subject_no, 'SENT', v_now);
    execute format('insert into pgmq.%I (msg_id, vt, message, headers) overriding system value values ($1, $2, $3, $4)', v_queue)
    using p_msg_id, v_now, commandbus.message(p_domain, p_command_type, p_command_id, p_correlation_id, p_data, null), p_headers;
    commit;
    if exists (select from commandbus.sleeper as s where s.domain = p_domain) then
        perform commandbus.wake(p_domain, 1);
    end if;
end;
$$;
