-- name: say_who
-- Say in whose name this transaction changes things, and why; for its length.
select set_config('mainstay.operator', %(operator)s, true), set_config('mainstay.reason', %(reason)s, true);

-- name: list
-- What operators did, newest first.
select t.deed_id, t.at, t.operator, t.role, t.kind, t.subject, t.what, t.reason, t.details
from commandbus.operator_trail as t
where (%(operator)s::text is null or t.operator = %(operator)s)
  and (%(kind)s::text is null or t.kind = %(kind)s)
  and (%(subject)s::text is null or starts_with(t.subject, %(subject)s))
  and (%(since)s::timestamptz is null or t.at >= %(since)s)
  and (%(until)s::timestamptz is null or t.at <= %(until)s)
  and (%(after)s::bigint is null or t.deed_id < %(after)s)
order by t.deed_id desc
limit %(limit)s;
