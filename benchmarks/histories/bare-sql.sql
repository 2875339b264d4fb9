-- %(copies)s copies of each completed command of bare SQL and of its audit trail.
with copied as materialized (
    select c.*, gen_random_uuid() as copy_id
    from bench.command as c
    cross join generate_series(1, %(copies)s)
    where c.status = 'COMPLETED'
), commands as (
    insert into bench.command (command_id, domain, command_type, data, status, attempts, result, created_at, updated_at)
    select c.copy_id, c.domain, c.command_type, c.data, c.status, c.attempts, c.result, c.created_at, c.updated_at
    from copied as c
)
insert into bench.audit (command_id, event_type, at)
select c.copy_id, a.event_type, a.at
from copied as c
join bench.audit as a using (command_id);
