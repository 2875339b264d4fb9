-- Put plain commands of one domain in, all of them or, if an id is known or stands twice, none. Plain: see send_one.
--
-- Called by CommandBus.send_batch and for sends that were joined. Does what send_all does, without looking at what plain commands do not have:
-- two thirds of its cost. Returns the messages' ids in the order given; null if none was stored: send or send_all then says of which why.
-- Raises MS001 (detail: the queue) if there is no queue, and unless p_patient 55P03, as send_one. The block is a savepoint.
-- Locks: as send, only what it inserts, in the order of ids. Before COMMIT nothing is visible; a crash leaves nothing but numbers drawn.
create or replace function commandbus.send_many(p_domain text, p_commands jsonb, p_patient boolean)
returns bigint[]
language plpgsql volatile
as $$
declare
    v_queue text := 'q_' || p_domain || '__commands';
    v_sequence regclass := to_regclass(format('pgmq.%I', v_queue || '_msg_id_seq'));
    v_msg_ids bigint[];
begin
    if v_sequence is null then
        perform commandbus.queue_table(p_domain || '__commands');
    elsif not p_patient then
        set local lock_timeout = '100ms';
    end if;
    begin
        execute format($sql$
            with given as materialized (
                select r.*, nextval('commandbus.subject_no') as subject_no, commandbus.place(nextval($3), coalesce(r.priority, 0)) as msg_id
                from rows from (jsonb_to_recordset($2) as (
                    command_type text, command_id uuid, data jsonb, correlation_id uuid, max_attempts integer, headers jsonb, priority integer)
                ) with ordinality as r(command_type, command_id, data, correlation_id, max_attempts, headers, priority, no)
            ), stored as (
                insert into commandbus.command (
                    command_id, domain, subject_no, command_type, max_attempts, msg_id, correlation_id, created_at, updated_at, data, headers,
                    priority)
                select
                    g.command_id, $1, g.subject_no, g.command_type, g.max_attempts, g.msg_id, g.correlation_id, $4, $4, g.data, g.headers,
                    coalesce(g.priority, 0)
                from given as g
                order by g.command_id
            ), audited as (
                insert into commandbus.audit (subject_no, event_type, ts) select g.subject_no, 'SENT', $4 from given as g
            ), queued as (
                insert into pgmq.%I (msg_id, vt, message, headers) overriding system value
                select g.msg_id, $4, commandbus.message($1, g.command_type, g.command_id, g.correlation_id, g.data, null), g.headers
                from given as g
            )
            select array_agg(g.msg_id order by g.no) from given as g
            $sql$, v_queue)
        into v_msg_ids using p_domain, p_commands, v_sequence, clock_timestamp();
    exception when unique_violation then
        return null;
    end;
    return v_msg_ids;
end;
$$;
