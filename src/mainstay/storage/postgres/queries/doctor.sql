-- What the doctor looks at. Each question reads the catalog or the statistics views; none locks anything or writes.

-- name: server
-- The server and the settings on which promises rest.
select current_setting('server_version_num')::integer as version_number,
       current_setting('server_version') as version,
       current_database() as database,
       current_user::text as role,
       pg_is_in_recovery() as is_standby,
       current_setting('server_encoding') as server_encoding,
       current_setting('fsync') as fsync,
       current_setting('full_page_writes') as full_page_writes,
       current_setting('synchronous_commit') as synchronous_commit,
       current_setting('autovacuum') as autovacuum,
       current_setting('track_counts') as track_counts,
       current_setting('default_transaction_isolation') as default_transaction_isolation,
       current_setting('default_transaction_read_only') as default_transaction_read_only;

-- name: missing_rights
-- What this role may not do, of all that commands, events and projections need. Lowest first: a schema before what is in it.
select n.nspname::text as schema, 'schema' as kind, n.nspname::text as name, p.privilege
from pg_catalog.pg_namespace as n
join (values ('commandbus', 'usage'), ('eventsource', 'usage'), ('mainstay', 'usage'), ('pgmq', 'usage'), ('pgmq', 'create')) as p(schema, privilege)
  on p.schema = n.nspname
where not has_schema_privilege(n.oid, p.privilege)
union all
select n.nspname, 'table', c.relname, p.privilege
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join (values
    ('commandbus', 'select'), ('commandbus', 'insert'), ('commandbus', 'update'), ('commandbus', 'delete'),
    ('eventsource', 'select'), ('eventsource', 'insert'), ('eventsource', 'update'), ('eventsource', 'delete'),
    ('pgmq', 'select'), ('pgmq', 'insert'), ('pgmq', 'update'), ('pgmq', 'delete'), ('mainstay', 'select')
) as p(schema, privilege) on p.schema = n.nspname
where c.relkind in ('r', 'p') and not has_table_privilege(c.oid, p.privilege)
  and not (n.nspname = 'eventsource' and c.relname in ('event', 'kind', 'stream', 'feed_horizon') and p.privilege = 'delete')
union all
select n.nspname, 'sequence', c.relname, 'usage'
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('commandbus', 'eventsource', 'pgmq')
  and case when c.relkind = 'S' then  -- asked of nothing else, which would be an error
      not (has_sequence_privilege(c.oid, 'usage') or has_sequence_privilege(c.oid, 'update')) end
union all
select n.nspname, 'function', p.proname, 'execute'
from pg_catalog.pg_proc as p
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
where n.nspname in ('commandbus', 'eventsource', 'pgmq') and not has_function_privilege(p.oid, 'execute')
order by 1, 2, 3, 4;

-- name: tables
-- Every table that commands, events and projections touch: how it is vacuumed, how large it is, and how much of it is dead.
select n.nspname || '.' || c.relname as name,
       format('%I.%I', n.nspname, c.relname) as quoted,
       n.nspname = 'pgmq' as is_queue,
       coalesce((select o.option_value::boolean from pg_options_to_table(c.reloptions) as o
                 where o.option_name = 'autovacuum_enabled'), true) as is_vacuumed,
       coalesce((select o.option_value::double precision from pg_options_to_table(c.reloptions) as o
                 where o.option_name = 'autovacuum_vacuum_threshold'),
                current_setting('autovacuum_vacuum_threshold')::double precision)
       + greatest(c.reltuples, 0)
         * coalesce((select o.option_value::double precision from pg_options_to_table(c.reloptions) as o
                     where o.option_name = 'autovacuum_vacuum_scale_factor'),
                    current_setting('autovacuum_vacuum_scale_factor')::double precision) as vacuum_at,
       s.n_live_tup as live_rows,
       s.n_dead_tup as dead_rows,
       extract(epoch from clock_timestamp() - greatest(s.last_vacuum, s.last_autovacuum))::double precision as since_vacuum,
       pg_table_size(c.oid) as table_bytes,
       pg_indexes_size(c.oid) as index_bytes,
       (s.n_live_tup * (32 + coalesce((
           select sum(w.avg_width) from pg_catalog.pg_stats as w
           where w.schemaname = n.nspname and w.tablename = c.relname), 500)))::double precision as needed_bytes
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_stat_all_tables as s on s.relid = c.oid
where c.relkind = 'r' and (n.nspname in ('commandbus', 'eventsource') or n.nspname = 'pgmq' and c.relname like 'q\_%')
order by pg_total_relation_size(c.oid) desc, 1;

-- name: sessions
-- Sessions in a transaction, the longest first; what other roles do is hidden from those without pg_read_all_stats.
select a.pid, a.application_name, a.usename::text as role, a.state, a.query_start,
       extract(epoch from clock_timestamp() - a.xact_start)::double precision as age,
       extract(epoch from clock_timestamp() - a.query_start)::double precision as query_age,
       left(regexp_replace(a.query, '\s+', ' ', 'g'), 100) as query,
       a.backend_xmin is not null or a.backend_xid is not null as pins,
       a.query = '<insufficient privilege>' as is_hidden
from pg_catalog.pg_stat_activity as a
where a.datname = current_database() and a.pid <> pg_backend_pid()
  and (a.backend_type = 'client backend' and a.xact_start is not null or a.query = '<insufficient privilege>')
order by a.xact_start, a.pid;

-- name: prepared_transactions
-- Transactions that were prepared and neither committed nor rolled back.
select p.gid, quote_literal(p.gid) as quoted, p.owner::text as owner,
       extract(epoch from clock_timestamp() - p.prepared)::double precision as age
from pg_catalog.pg_prepared_xacts as p
where p.database = current_database()
order by p.prepared;

-- name: replication_slots
-- Slots that hold back vacuum or keep the write-ahead log.
select s.slot_name::text as name, quote_literal(s.slot_name) as quoted, s.active as is_active,
       age(s.xmin) as xmin_age, age(s.catalog_xmin) as catalog_xmin_age,
       case when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn) end::bigint as kept_bytes
from pg_catalog.pg_replication_slots as s
where s.database is null or s.database = current_database()
order by s.slot_name;

-- name: queues
-- Every queue of commands, beside who could receive from it.
select domain, ready, leased, oldest_ready_seconds, longest_unread_seconds, strays, sleepers, overdue_seconds
from commandbus.examine_queues(%(sample)s);

-- name: breakers
-- What is held because it fails alike.
select b.domain, b.command_type, b.fingerprint, b.state, b.failed_probes, b.example_message,
       extract(epoch from clock_timestamp() - b.since)::double precision as seconds,
       (select count(*) from commandbus.parked as p
        where p.domain = b.domain and p.command_type = b.command_type and p.held_by = b.fingerprint) as parked
from commandbus.breaker as b
order by b.domain, b.command_type, b.fingerprint;

-- name: held_processes
-- Processes that wait for an operator: by the domain of the command that waits for one, and whether it is a step, or what should move a process.
select t.domain, s.step_no is not null as is_step, count(*) as commands,
       extract(epoch from clock_timestamp() - min(t.since))::double precision as seconds
from commandbus.troubleshooting as t
left join commandbus.process_step as s on s.command_id = t.command_id and s.domain = t.domain
where s.step_no is not null or t.command_type in ('Reply', 'ProcessDeadline', 'ProcessCancel')
group by t.domain, s.step_no is not null
order by t.domain, s.step_no is not null;

-- name: clock
-- What time the database has.
select clock_timestamp() as now;

-- name: connections
-- How many connections there are, and may be: of the server, this database and this role. Who may not see what a session is counts it.
select 'server' as whose, null as name, current_setting('max_connections')::integer
           - current_setting('superuser_reserved_connections')::integer as allowed,
       (select count(*) from pg_catalog.pg_stat_activity as a where a.usesysid is not null and coalesce(a.backend_type, 'client backend') = 'client backend') as used
union all
select 'database', d.datname, d.datconnlimit,
       (select count(*) from pg_catalog.pg_stat_activity as a where a.datid = d.oid and coalesce(a.backend_type, 'client backend') = 'client backend')
from pg_catalog.pg_database as d
where d.datname = current_database() and d.datconnlimit >= 0
union all
select 'role', r.rolname, r.rolconnlimit,
       (select count(*) from pg_catalog.pg_stat_activity as a where a.usesysid = r.oid and coalesce(a.backend_type, 'client backend') = 'client backend')
from pg_catalog.pg_roles as r
where r.rolname = session_user and r.rolconnlimit >= 0;

-- name: invalid_indexes
-- Indexes of ours that no query uses, or that do not keep their promise, and that nobody is building right now.
select format('%I.%I', n.nspname, c.relname) as name, format('%I.%I', tn.nspname, t.relname) as on_table
from pg_catalog.pg_index as i
join pg_catalog.pg_class as c on c.oid = i.indexrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_class as t on t.oid = i.indrelid
join pg_catalog.pg_namespace as tn on tn.oid = t.relnamespace
where tn.nspname in ('commandbus', 'eventsource', 'mainstay', 'pgmq') and not (i.indisvalid and i.indisready)
  and not exists (select from pg_catalog.pg_stat_progress_create_index as p where p.index_relid = i.indexrelid)
order by 1;

-- name: wraparound
-- The oldest transaction id that any database of the server must still know; old ones stop the whole server.
select d.datname::text as name, age(d.datfrozenxid) as age, mxid_age(d.datminmxid) as multixact_age,
       current_setting('autovacuum_freeze_max_age')::integer as freeze_at,
       current_setting('autovacuum_multixact_freeze_max_age')::integer as multixact_freeze_at
from pg_catalog.pg_database as d
order by age(d.datfrozenxid) desc
limit 1;

-- name: server_process
-- The server process that answers.
select pg_backend_pid() as pid;

-- name: feed_holders
-- Transactions that have appended events and are still open, the lowest floor first; see eventsource.hold_floor.
select k.pid, a.application_name, a.usename::text as role, a.state, p.gid, quote_literal(p.gid) as quoted,
       (k.classid::bigint << 32 | k.objid::bigint) & ((1::bigint << 48) - 1) as floor,
       coalesce(pg_sequence_last_value('eventsource.event_position'), 0) as drawn,
       extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared))::double precision as age
from pg_catalog.pg_locks as k
left join pg_catalog.pg_stat_activity as a on a.pid = k.pid
left join pg_catalog.pg_locks as x
    on k.pid is null and x.pid is null and x.virtualtransaction = k.virtualtransaction and x.locktype = 'transactionid'
    and x.transactionid in (select g.transaction from pg_catalog.pg_prepared_xacts as g)
left join pg_catalog.pg_prepared_xacts as p on p.transaction = x.transactionid
where k.locktype = 'advisory' and k.objsubid = 1 and k.classid::bigint >> 16 = 28019
  and k.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
order by floor, k.pid;

-- name: projections
-- Every subscription: its shards that stand still or are nobody's, how long ago what it comes to next was recorded, and what lies apart.
select n.subscription as name, n.shards,
       (count(*) filter (where s.status = 'STOPPED'))::integer as stopped,
       max(s.reason) filter (where s.status = 'STOPPED') as stopped_reason,
       (count(*) filter (where s.status = 'PAUSED'))::integer as paused,
       max(s.reason) filter (where s.status = 'PAUSED') as paused_reason,
       max(s.actor) filter (where s.status = 'PAUSED') as paused_by,
       (count(*) filter (where s.status = 'ACTIVE' and coalesce(s.leased_until, '-infinity') <= clock_timestamp()))::integer as unowned,
       coalesce(max(extract(epoch from clock_timestamp() - f.recorded_at)), 0)::double precision as seconds,
       (select count(*) from eventsource.dead_letter as d where d.subscription = n.subscription and d.status = 'WAITING') as dead_letters
from (select eventsource.horizon() as horizon) as h
cross join eventsource.subscription as n
join eventsource.shard as s on s.subscription = n.subscription
left join lateral (
    select e.recorded_at from eventsource.event as e
    where e.position > s.position and e.position <= h.horizon order by e.position limit 1
) as f on true
group by n.subscription, n.shards
order by n.subscription;

-- name: feed_positions
-- The last event's position, and what the sequence of positions has drawn.
select coalesce((select max(e.position) from eventsource.event as e), 0) as last,
       coalesce(pg_sequence_last_value('eventsource.event_position'), 0) as drawn,
       (select s.seqcache from pg_catalog.pg_sequence as s where s.seqrelid = 'eventsource.event_position'::regclass) as cache;
