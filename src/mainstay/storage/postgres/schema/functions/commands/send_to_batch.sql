-- Put a chunk of commands into an open batch, all of them or, if any is refused, none.
--
-- Called by BatchStream, in a transaction of its own for each chunk. Returns what send_all returns. Raises MS002 (detail: domain/batch) if there is no such
-- batch, MS020 if it was sealed: what comes after a seal would not be waited for.
-- Locks: the batch row for key share, which only seal_batch has to wait for (workers that start or fold it do not), then as send does.
create or replace function commandbus.send_to_batch(p_domain text, p_batch_id uuid, p_commands jsonb)
returns table (domain text, command_id uuid, msg_id bigint, refusal text, holder_id uuid)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_sealed boolean;
begin
    select b.sealed into v_sealed from commandbus.batch as b
    where b.batch_id = p_batch_id and b.domain = p_domain
    for key share;
    if not found then
        raise exception 'there is no batch %', p_batch_id using errcode = 'MS002', detail = p_domain || '/' || p_batch_id;
    elsif v_sealed then
        raise exception 'batch % was sealed or canceled: nothing more can be sent into it', p_batch_id using errcode = 'MS020';
    end if;
    return query select s.domain, s.command_id, s.msg_id, s.refusal, s.holder_id from commandbus.send_all(p_commands) as s;
end;
$$;
