-- Create the queue of a domain, if it is missing, and make it fit for churn.
--
-- Called by the first send into a domain and by a starting worker, on a connection of its own: pgmq.create holds an
-- advisory lock until COMMIT, which would make other senders wait for a business transaction.
--
-- PGMQ's index on vt goes: pgmq.read and commandbus.receive compare vt with clock_timestamp(), which no index can
-- serve, and without it a lease is a HOT update. Pages have room for a second version of every row, also while nothing may be removed.
create or replace function commandbus.create_queue(p_domain text)
returns void
language plpgsql volatile
as $$
declare
    v_queue text := p_domain || '__commands';
    v_table text := format('pgmq.%I', 'q_' || v_queue);
begin
    if p_domain !~ '^[a-z0-9][a-z0-9_-]{0,36}$' then
        raise exception 'invalid domain "%"', p_domain using errcode = 'MS004', detail = p_domain;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('mainstay.queue.' || v_queue, 0));
    if to_regclass(v_table) is not null then
        return;
    end if;
    perform pgmq.create(v_queue);
    execute format('drop index if exists pgmq.%I', 'q_' || v_queue || '_vt_idx');
    execute format(
        'alter table %s set (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 200,'
        ' autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2)', v_table);
end;
$$;
