-- Is no job of procrastinate due or in hand?
select not exists (
  select
  from procrastinate_jobs
  where status = 'doing' or (status = 'todo' and (scheduled_at is null or scheduled_at <= now()))
);
