-- %(steps)s steps, audit lines and events of a process, the last step under way, as its moves would have left them.
delete from commandbus.process_step where process_id = %(process_id)s and step_no > 1;
insert into commandbus.process_step (
    process_id, step_no, name, domain, command_type, command_id, data, status, sent_at, replied_at, done_after)
select %(process_id)s, n, 'Do', 'orders', 'Do', gen_random_uuid(), '{}', 'SUCCESS', now(), now(), case when n = 2 then 0 else n - 1 end
from generate_series(2, %(steps)s - 1) as n;
insert into commandbus.process_step (process_id, step_no, name, domain, command_type, command_id, data, sent_at)
values (%(process_id)s, %(steps)s, 'Do', 'orders', 'Do', gen_random_uuid(), '{}', now());
update commandbus.process set open_steps = 2, last_done = %(steps)s - 1 where process_id = %(process_id)s;
insert into commandbus.process_event (process_id, event_id, event_type, position, was_taken, taken_at)
select %(process_id)s, gen_random_uuid(), 'E', n, true, now() from generate_series(1, %(steps)s) as n;
insert into commandbus.process_audit (process_id, ts, event_type, step_no)
select %(process_id)s, now(), 'STEP_SENT', n from generate_series(1, %(steps)s) as n;
