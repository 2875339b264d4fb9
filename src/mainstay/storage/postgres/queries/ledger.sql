-- name: get_decision
-- What was decided on one command, and how it ended.
select d.*, c.command_type, c.status, c.correlation_id, c.result, c.error_code, c.error_message
from commandbus.command as c
join commandbus.decision as d on d.subject_no = c.subject_no
where c.command_id = %(command_id)s and c.domain = %(domain)s;

-- name: list_decisions
-- Decisions in the order in which their commands were sent, after one of them, of any mix of conditions.
select d.*, c.command_type, c.status, c.correlation_id, c.result, c.error_code, c.error_message
from commandbus.decision as d
join commandbus.command as c on c.command_id = d.command_id and c.domain = d.domain
where d.subject_no > %(after)s
  and (%(domain)s::text is null or d.domain = %(domain)s)
  and (%(command_type)s::text is null or c.command_type = %(command_type)s)
  and (%(since)s::timestamptz is null or d.decided_at >= %(since)s)
  and (%(until)s::timestamptz is null or d.decided_at < %(until)s)
  and (%(category)s::text is null or d.category = %(category)s)
  and (%(stream_id)s::text is null or d.stream_id = %(stream_id)s)
  and (%(tenant_id)s::text is null or d.tenant_id = %(tenant_id)s)
order by d.subject_no
limit %(limit)s;
