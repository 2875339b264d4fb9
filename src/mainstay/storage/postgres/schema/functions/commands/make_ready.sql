-- Make pending commands that wait nowhere ready: a message in the queue for each, by priority; those with a key get in line
-- instead, unless it is their turn.
--
-- Called by promote (their time has come), promote_keys (their turn has come: p_in_turn) and act (an operator wants them again), which have
-- taken them out of where they waited, and hold those rows. Returns those that are in the queue now.
-- Locks: command rows in the order of ids. Commands that are not PENDING are left alone.
create or replace function commandbus.make_ready(p_domain text, p_command_ids uuid[], p_in_turn boolean)
returns table (command_id uuid, msg_id bigint)
language plpgsql volatile
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_material = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_queue text := p_domain || '__commands';
    v_ids uuid[];
    v_msg_ids bigint[];
    v_messages jsonb[];
    v_headers jsonb[];
    v_in_line uuid[];
    v_keys text[];
    v_numbers bigint[];
begin
    with ready as (
        update commandbus.command as c
        set msg_id = case when c.key is null or p_in_turn then commandbus.next_msg_id(v_queue, c.priority) end, due_at = null
        from (select t.id from unnest(p_command_ids) as t(id) order by t.id) as given
        where c.command_id = any (array[given.id]) and c.domain || '' = p_domain and c.status = 'PENDING'
        returning
            c.command_id, c.msg_id, c.headers, c.key, c.subject_no,
            case when c.msg_id is not null then
                commandbus.message(c.domain, c.command_type, c.command_id, c.correlation_id, c.data, c.reply_to)
            end as message
    )
    select
        array_agg(r.command_id) filter (where r.msg_id is not null), array_agg(r.msg_id) filter (where r.msg_id is not null),
        array_agg(r.message) filter (where r.msg_id is not null), array_agg(r.headers) filter (where r.msg_id is not null),
        array_agg(r.command_id) filter (where r.msg_id is null), array_agg(r.key) filter (where r.msg_id is null),
        array_agg(r.subject_no) filter (where r.msg_id is null)
    into v_ids, v_msg_ids, v_messages, v_headers, v_in_line, v_keys, v_numbers
    from ready as r;
    if v_in_line is not null then
        perform commandbus.line_up(p_domain, v_in_line, v_keys, v_numbers);
    end if;
    if v_ids is not null then
        perform commandbus.put_messages(v_queue, v_msg_ids, v_messages, v_headers);
        return query select t.id, t.msg from unnest(v_ids, v_msg_ids) as t(id, msg);
    end if;
end;
$$;
