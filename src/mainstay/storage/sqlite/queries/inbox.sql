-- name: take
-- Remember a message: a row if it is the first time.
insert into mainstay_inbox (consumer, message_id, taken_at) values (?, ?, ?)
on conflict do nothing
returning 1;

-- name: prune
-- Forget what is old.
delete from mainstay_inbox where consumer = ? and taken_at < ? returning 1;
