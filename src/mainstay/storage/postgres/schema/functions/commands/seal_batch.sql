-- Say that nothing more is sent into an open batch, so that it can end.
--
-- Called by CommandBus at the end of a stream, and by operators after the sender of one died. Does nothing to a sealed batch. Raises MS002
-- (detail: domain/batch) if there is no such batch.
-- If an operator does it, it stands in the trail.
-- Locks: the batch row, after waiting for the chunks that are on their way. The delta lets the next fold look at it.
create or replace function commandbus.seal_batch(p_domain text, p_batch_id uuid)
returns void
language plpgsql volatile
as $$
declare
    v_sealed boolean;
begin
    select b.sealed into v_sealed from commandbus.batch as b
    where b.batch_id = p_batch_id and b.domain = p_domain
    for update;
    if not found then
        raise exception 'there is no batch %', p_batch_id using errcode = 'MS002', detail = p_domain || '/' || p_batch_id;
    elsif not v_sealed then
        update commandbus.batch as b set sealed = true where b.batch_id = p_batch_id and b.domain = p_domain;
        insert into commandbus.batch_delta (domain, batch_id) values (p_domain, p_batch_id);
        if commandbus.named_operator() is not null then
            perform commandbus.note_deed('BATCH', p_domain || '/' || p_batch_id, 'SEALED');
        end if;
    end if;
end;
$$;
