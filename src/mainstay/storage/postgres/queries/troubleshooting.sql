-- What waits for an operator. Of commands only those are read that are given out, each by its primary key: `offset 0` leaves the planner nothing else
-- (decision 5). Joined as one would write it, all commands there ever were are read.

-- name: list_groups
-- What waits for an operator, by what went wrong, the largest group first; the newest command of each is its example.
select g.group_id, g.domain, g.command_type, g.error_type, g.error_code, g.fingerprint, g.commands, g.first_seen, g.last_seen,
       e.command_id as example_id,
       (select c.error_message from commandbus.command as c where c.command_id = e.command_id and c.domain = g.domain) as example_message
from (
    select t.group_id, t.domain, t.command_type, t.error_type, t.error_code, t.fingerprint, count(*) as commands,
           min(t.since) as first_seen, max(t.since) as last_seen
    from commandbus.select_troubled(
        %(domain)s, %(command_type)s, %(error_code)s, %(group_id)s, %(batch_id)s, %(command_ids)s) as t
    group by t.group_id, t.domain, t.command_type, t.error_type, t.error_code, t.fingerprint
) as g
cross join lateral (
    select t.command_id
    from commandbus.select_troubled(
        %(domain)s, %(command_type)s, %(error_code)s, %(group_id)s, %(batch_id)s, %(command_ids)s) as t
    where t.group_id = g.group_id and t.since = g.last_seen
    order by t.command_id
    limit 1
) as e
order by g.commands desc, g.domain, g.command_type, g.error_code, g.group_id;

-- name: list_kinds
-- The forms of payload among what waits for an operator: domain, type, and the header that says the version.
select distinct c.domain, c.command_type,
       case when c.headers ? %(header)s then jsonb_build_object(%(header)s::text, c.headers -> %(header)s) else '{}'::jsonb end as headers
from commandbus.select_troubled(
    %(domain)s, %(command_type)s, %(error_code)s, %(group_id)s, %(batch_id)s, %(command_ids)s) as t
cross join lateral (
    select c.* from commandbus.command as c where c.command_id = t.command_id and c.domain = t.domain offset 0
) as c
order by c.domain, c.command_type, headers;

-- name: select_troubled
-- Commands of the troubleshooting queue that meet all conditions, the longest waiting first; a page begins after a command.
select c.*
from (
    select t.command_id, t.domain, t.since
    from commandbus.select_troubled(
        %(domain)s, %(command_type)s, %(error_code)s, %(group_id)s, %(batch_id)s, %(command_ids)s) as t
    where t.since >= coalesce(%(after_since)s::timestamptz, '-infinity')
      and (%(after_since)s::timestamptz is null
           or (t.since, t.command_id, t.domain) > (%(after_since)s, %(after_id)s::uuid, %(after_domain)s::text))
    order by t.since, t.command_id, t.domain
    offset 0  -- they are in order before their commands are read, so no more are read than are given out
) as t
cross join lateral (
    select c.* from commandbus.command as c where c.command_id = t.command_id and c.domain = t.domain offset 0
) as c
order by t.since, t.command_id, t.domain
limit %(limit)s;

-- name: decide
-- Carry out an operator's decision at once.
select command_id, applied, status, msg_id, action_id
from commandbus.decide(%(domain)s, %(command_ids)s, %(request)s::jsonb);

-- name: begin_action
-- Write a decision down; its state.
select commandbus.begin_action(
    %(action_id)s, %(action)s, %(selection)s::jsonb, %(request)s::jsonb, %(rate)s, %(expect)s);

-- name: run_action
-- Carry out the next part of an action.
select domain, command_id, applied, status from commandbus.run_action(%(action_id)s, %(limit)s);

-- name: approve_action
-- Let a proposal run.
select commandbus.approve_action(%(action_id)s, %(operator)s);

-- name: stop_action
-- Let an action come to no more commands.
select commandbus.stop_action(%(action_id)s, %(operator)s);

-- name: undo
-- Take back a part of a retry.
select "position", domain, command_id, undone, status
from commandbus.undo(%(action_id)s, %(after)s, %(limit)s, %(deferred)s, %(operator)s, %(reason)s);

-- name: last_retry
-- The newest retry of a command that was applied, and the command's position in it.
select i.action_id, i.position
from commandbus.operator_item as i
join commandbus.operator_action as a on a.action_id = i.action_id
where i.command_id = %(command_id)s and i.domain = %(domain)s and i.state = 'APPLIED' and a.action = 'RETRY'
order by i.lease_no desc
limit 1;

-- name: get_action
-- One action.
select a.action_id, a.action, a.state, a.operator, a.reason, a.selection, a.rate, a.total, a.position, a.applied, a.refused,
       a.undone, a.last_due_at, a.approved_by, a.stopped_by, a.created_at, a.ended_at
from commandbus.operator_action as a
where a.action_id = %(action_id)s;

-- name: list_actions
-- Actions, newest first; a page begins after an action.
select a.action_id, a.action, a.state, a.operator, a.reason, a.selection, a.rate, a.total, a.position, a.applied, a.refused,
       a.undone, a.last_due_at, a.approved_by, a.stopped_by, a.created_at, a.ended_at
from commandbus.operator_action as a
where (%(state)s::text is null or a.state = %(state)s)
  and a.created_at <= coalesce(%(after_time)s::timestamptz, 'infinity')
  and (%(after_time)s::timestamptz is null or a.created_at < %(after_time)s or a.action_id > %(after_id)s::uuid)
order by a.created_at desc, a.action_id
limit %(limit)s offset %(offset)s;

-- name: list_steps
-- The commands of an action after a position, in their order, with what became of each and where it stands now.
select i.position, i.domain, i.command_id, i.state, c.status
from commandbus.operator_item as i
join commandbus.command as c on c.command_id = i.command_id and c.domain = i.domain
where i.action_id = %(action_id)s and i.position > %(after)s and (%(state)s::text is null or i.state = %(state)s)
order by i.position
limit %(limit)s;

-- name: get_rules
-- What operators must keep to.
select approve_above, reason_required from commandbus.operator_rules;

-- name: set_rules
-- Change what operators must keep to.
insert into commandbus.operator_rules as r (approve_above, reason_required, changed_by)
values (%(approve_above)s, %(reason_required)s, %(operator)s)
on conflict (only_one) do update
set approve_above = excluded.approve_above, reason_required = excluded.reason_required,
    changed_by = excluded.changed_by, changed_at = clock_timestamp();
