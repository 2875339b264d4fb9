-- Put commands in, all of them or, if any is refused, none.
--
-- Called by CommandBus.send_batch, a chunk at a time. Returns what send returns; when something was refused, the rows of the others
-- mean nothing. The block is a savepoint, so that a caller's transaction stays usable after a refusal. Locks as send does.
create or replace function commandbus.send_all(p_commands jsonb)
returns table (domain text, command_id uuid, msg_id bigint, refusal text, holder_id uuid)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_domains text[];
    v_ids uuid[];
    v_msg_ids bigint[];
    v_refusals text[];
    v_holders uuid[];
begin
    begin
        select array_agg(s.domain), array_agg(s.command_id), array_agg(s.msg_id), array_agg(s.refusal), array_agg(s.holder_id)
        into v_domains, v_ids, v_msg_ids, v_refusals, v_holders
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
        select t.domain, t.id, t.msg, t.refusal, t.holder_id
        from unnest(v_domains, v_ids, v_msg_ids, v_refusals, v_holders) as t(domain, id, msg, refusal, holder_id);
end;
$$;
