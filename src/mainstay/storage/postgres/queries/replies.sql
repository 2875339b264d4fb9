-- Waiting for the ends of commands.

-- name: get_replies
-- How commands ended; of those that have not there is no row. One lookup for each, whatever the statistics say.
select c.domain, c.command_id, c.correlation_id, c.status, c.result, c.error_code, c.error_message, c.position
from unnest(%(domains)s::text[], %(command_ids)s::uuid[]) as k(domain, command_id)
cross join lateral (
    select r.* from commandbus.command as r
    where r.command_id = k.command_id and r.domain = k.domain and r.status in ('COMPLETED', 'FAILED', 'CANCELED')
    limit 1
) as c;

-- name: about_to_wait
-- Ask to be told when one of these commands ends.
select commandbus.about_to_wait(%(domains)s, %(command_ids)s, %(channel)s, %(seconds)s);

-- name: stop_waiting
-- Nobody waits on this channel for these commands any more.
delete from commandbus.waiter as w
using unnest(%(domains)s::text[], %(command_ids)s::uuid[]) as k(domain, command_id)
where w.command_id = k.command_id and w.domain = k.domain and w.channel = %(channel)s;

-- name: reply_again
-- Answer who sent a command again that has ended; whether it did.
select commandbus.reply_again(%(domain)s, %(command_id)s, %(reply_to)s);

-- name: tell
-- Tell those who wait for these commands.
select commandbus.tell(%(domains)s, %(command_ids)s);
