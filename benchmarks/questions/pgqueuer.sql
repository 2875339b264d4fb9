-- Is no job of PgQueuer due or in hand? A finished job leaves the table for the log.
select not exists (select from pgqueuer where status in ('queued', 'picked') and execute_after <= now());
