-- Create a batch with its commands, or, if any of them is refused, neither.
--
-- Called by CommandBus.create_batch. Returns what send returns. A refusal rolls back to before this call (the block below is a
-- savepoint), so that a caller's transaction stays usable. Raises MS005 (detail: domain/batch) if the batch exists, and, so that the
-- completion command cannot fail when its time comes, MS001 (detail: the queue) if it could not be sent now, MS003 (detail: domain/id)
-- if its id was used, also by one of the batch's own commands. With a parent, MS002 (detail: domain/batch) if there is none of this id, MS020 if it
-- has ended; it is not locked, so a part that is created while its parent ends is not waited for: keep the parent open meanwhile.
create or replace function commandbus.create_batch(
    p_domain text, p_batch_id uuid, p_name text, p_custom_data jsonb, p_on_complete jsonb, p_commands jsonb, p_parent_id uuid,
    p_sealed boolean)
returns table (domain text, command_id uuid, msg_id bigint, refusal text, holder_id uuid)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_ids uuid[];
    v_msg_ids bigint[];
    v_refusals text[];
    v_holders uuid[];
    v_over boolean;
begin
    if p_on_complete is not null then
        perform commandbus.queue_table(p_on_complete ->> 'domain' || '__commands');
        if p_on_complete ->> 'reply_to' is not null then
            perform commandbus.queue_table(p_on_complete ->> 'reply_to');
        end if;
        if exists (
            select from commandbus.command as c
            where c.command_id = (p_on_complete ->> 'command_id')::uuid and c.domain = p_on_complete ->> 'domain')
           or exists (
            select from jsonb_array_elements(p_commands) as m
            where (m.value ->> 'command_id')::uuid = (p_on_complete ->> 'command_id')::uuid
              and m.value ->> 'domain' = p_on_complete ->> 'domain')
        then
            raise exception 'the completion command was sent before' using
                errcode = 'MS003', detail = (p_on_complete ->> 'domain') || '/' || (p_on_complete ->> 'command_id');
        end if;
    end if;
    if p_parent_id is not null then
        select b.completed_at is not null into v_over from commandbus.batch as b
        where b.batch_id = p_parent_id and b.domain = p_domain;
        if not found then
            raise exception 'there is no batch %', p_parent_id using errcode = 'MS002', detail = p_domain || '/' || p_parent_id;
        elsif v_over then
            raise exception 'batch % has ended, and can get no more parts', p_parent_id using errcode = 'MS020';
        end if;
    end if;
    begin
        insert into commandbus.batch (batch_id, domain, name, custom_data, on_complete, parent_id, sealed)
        values (p_batch_id, p_domain, p_name, p_custom_data, p_on_complete, p_parent_id, p_sealed)
        on conflict do nothing;
        if not found then
            raise exception 'batch % exists', p_batch_id using errcode = 'MS005', detail = p_domain || '/' || p_batch_id;
        end if;
        insert into commandbus.batch_delta (domain, batch_id) values (p_domain, p_batch_id);
        select array_agg(s.command_id), array_agg(s.msg_id), array_agg(s.refusal), array_agg(s.holder_id)
        into v_ids, v_msg_ids, v_refusals, v_holders
        from commandbus.send(p_commands) as s;
        if coalesce(cardinality(v_ids), 0) < jsonb_array_length(p_commands)
           or exists (select from unnest(v_refusals) as r where r is not null)
        then
            raise exception 'refused' using errcode = 'MS900';
        end if;
    exception when sqlstate 'MS900' then
        null;
    end;
    return query
        select p_domain, t.id, t.msg, t.refusal, t.holder_id
        from unnest(v_ids, v_msg_ids, v_refusals, v_holders) as t(id, msg, refusal, holder_id);
end;
$$;
