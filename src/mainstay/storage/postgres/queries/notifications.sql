-- LISTEN and NOTIFY.

-- name: listen
-- Hear a channel. The channel is an identifier, filled in quoted.
listen {channel};

-- name: notify
-- Tell a channel's listeners; a channel is a parameter here.
select pg_notify(%(channel)s::text, %(payload)s::text);
