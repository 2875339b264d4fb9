-- breaking: yes
-- What a move of a process must know of its steps without reading them all: how many are under way, and which was done last.
--
-- Breaking because an older release reads whole rows of steps, and knows no such column. Written by commandbus.advance_process alone, to rows that it writes anyway.

alter table commandbus.process
    add column open_steps integer not null default 0,
    add column last_done integer not null default 0;
alter table commandbus.process_step
    add column done_after integer;

comment on column commandbus.process.open_steps is 'Steps under way: those whose status is SENT.';
comment on column commandbus.process.last_done is
    'Number of the step that was done last, and is undone first; 0: none. The one before it is its done_after, and so on.';
comment on column commandbus.process_step.done_after is
    'Number of the step that was done before this one, and is undone after it; 0: none; null: it was not done, or undoes another.';

update commandbus.process as p set open_steps = s.steps
from (select process_id, count(*) as steps from commandbus.process_step where status = 'SENT' group by process_id) as s
where s.process_id = p.process_id;

-- One that has ended undoes only what is done after all.
with done as (
    select s.process_id, s.step_no, lag(s.step_no, 1, 0) over (partition by s.process_id order by s.replied_at, s.step_no) as done_after,
           row_number() over (partition by s.process_id order by s.replied_at desc, s.step_no desc) as place
    from commandbus.process_step as s
    join commandbus.process as p on p.process_id = s.process_id
    where p.completed_at is null and s.status = 'SUCCESS' and s.undoes is null
      and not exists (select from commandbus.process_step as u where u.process_id = s.process_id and u.undoes = s.step_no)
), linked as (
    update commandbus.process_step as s set done_after = d.done_after
    from done as d
    where s.process_id = d.process_id and s.step_no = d.step_no
)
update commandbus.process as p set last_done = d.step_no
from done as d
where d.process_id = p.process_id and d.place = 1;
