-- %(copies)s copies of each line that PgQueuer keeps of its finished jobs, under ids of their own.
with highest as (
    select max(job_id) as job_id from pgqueuer_log
), numbered as (
    select setval(pg_get_serial_sequence('pgqueuer', 'id'), job_id * (%(copies)s + 1)) from highest
)
insert into pgqueuer_log (created, job_id, status, priority, entrypoint, aggregated)
select l.created, l.job_id + n * h.job_id, l.status, l.priority, l.entrypoint, l.aggregated
from pgqueuer_log as l
cross join generate_series(1, %(copies)s) as n
cross join highest as h
cross join numbered;
