-- PGMQ's functions as `PgmqClient` calls them. Rows of a message or of metrics are taken whole and read by column name:
-- PGMQ adds columns between releases, also in the middle.

-- name: create_queue
-- Create a queue unless it exists. Holds an advisory lock of PGMQ's until the commit.
select pgmq.create(%(queue)s::text);

-- name: partman_is_installed
-- Whether partitioned queues can be had.
select exists (select from pg_catalog.pg_extension where extname = 'pg_partman');

-- name: create_partitioned
-- Create a queue in partitions of a span of time or of a number of messages; without retention nothing is dropped.
select pgmq.create_partitioned(%(queue)s::text, %(partition_interval)s::text, %(retention_interval)s::text);

-- name: list_queues
-- All queues by name.
select * from pgmq.list_queues() order by queue_name;

-- name: drop_queue
-- Drop a queue with its archive; false if there was none.
select pgmq.drop_queue(%(queue)s::text);

-- name: send
-- Put a message into a queue, visible after a number of seconds.
select pgmq.send(%(queue)s::text, %(message)s::text::jsonb, %(headers)s::text::jsonb,
                 clock_timestamp() + make_interval(secs => %(delay)s));

-- name: send_batch
-- Put messages into a queue in the order given, visible after a number of seconds.
select pgmq.send_batch(%(queue)s::text, %(messages)s::text[]::jsonb[], %(headers)s::text[]::jsonb[],
                       clock_timestamp() + make_interval(secs => %(delay)s)) as msg_id;

-- name: read
-- Lease up to a number of visible messages for a number of seconds.
select * from pgmq.read(%(queue)s::text, %(visibility_timeout)s::integer, %(batch_size)s::integer);

-- name: pop
-- Take the oldest visible message out of a queue.
select * from pgmq.pop(%(queue)s::text);

-- name: archive
-- Move a message to the queue's archive; false if it was not there.
select pgmq.archive(%(queue)s::text, %(msg_id)s::bigint);

-- name: delete
-- Delete a message; false if it was not there.
select pgmq.delete(%(queue)s::text, %(msg_id)s::bigint);

-- name: set_vt
-- Make a message invisible for a number of seconds from now, and say until when; no row if it is not there.
select vt from pgmq.set_vt(%(queue)s::text, %(msg_id)s::bigint, %(visibility_timeout)s::integer);

-- name: metrics
-- Length and ages of a queue.
select * from pgmq.metrics(%(queue)s::text);

-- name: purge
-- Remove all messages of a queue at once, and say how many there were.
select pgmq.purge_queue(%(queue)s::text);
