-- %(processes)s processes that have ended, a step and four lines of audit each, as a worker would have left them; every hundredth in a batch.
with made as (
    insert into commandbus.process (
        process_id, domain, reply_domain, process_type, status, state, correlation_id, batch_id, created_at, updated_at, completed_at)
    select
        gen_random_uuid(), 'buying', 'buying', 'Buy', 'COMPLETED', '{"article": "lamp"}', gen_random_uuid(),
        case when n %% 100 = 0 then md5('batch ' || n / 1000)::uuid end,
        now() - n * interval '1 second', now() - n * interval '1 second', now() - n * interval '1 second'
    from generate_series(1, %(processes)s) as n
    returning process_id, created_at
), steps as (
    insert into commandbus.process_step (
        process_id, step_no, name, domain, command_type, command_id, data, status, sent_at, replied_at)
    select m.process_id, 1, 'Reserve', 'orders', 'Reserve', gen_random_uuid(), '{}', 'SUCCESS', m.created_at, m.created_at
    from made as m
)
insert into commandbus.process_audit (process_id, ts, event_type, step_no)
select m.process_id, m.created_at, told.event_type, told.step_no
from made as m
cross join lateral (values ('STARTED', null), ('STEP_SENT', 1), ('STEP_SUCCEEDED', 1), ('COMPLETED', null)) as told(event_type, step_no);
