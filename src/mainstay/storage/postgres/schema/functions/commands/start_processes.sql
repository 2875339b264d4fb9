-- Put processes in, each with its first move.
--
-- Called by ProcessManager in the transaction that also sends the steps. p_processes is an array of {process_id, domain, reply_domain,
-- process_type, correlation_id, batch_id, tenant_id, actor_id, change}, change as advance_process takes it. Returns the ids that were known; of these nothing is stored.
-- Locks: only what it inserts, in the order of ids. A crash before COMMIT leaves nothing.
create or replace function commandbus.start_processes(p_processes jsonb)
returns table (known_id uuid)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set jit = off
as $$
declare
    v_process jsonb;
begin
    for v_process in
        select p.value from jsonb_array_elements(p_processes) as p order by (p.value ->> 'process_id')::uuid
    loop
        insert into commandbus.process (
            process_id, domain, reply_domain, process_type, status, state, correlation_id, batch_id, tenant_id, actor_id)
        values (
            (v_process ->> 'process_id')::uuid, v_process ->> 'domain', v_process ->> 'reply_domain', v_process ->> 'process_type',
            'WAITING_FOR_REPLY', '{}', (v_process ->> 'correlation_id')::uuid, (v_process ->> 'batch_id')::uuid,
            v_process ->> 'tenant_id', v_process ->> 'actor_id')
        on conflict do nothing;
        if found then
            perform commandbus.advance_process(v_process -> 'change');
        else
            known_id := (v_process ->> 'process_id')::uuid;
            return next;
        end if;
    end loop;
end;
$$;
