-- Stores messages, and how far their sender has come, in one step; or neither, if the sender is elsewhere than believed.
--
-- KEYS: the hash of senders, and the stream of each partition.
-- ARGV: the sender ('' for none), where it is believed to be, where it is then; and for each message the partition from
-- 0, id, stream, version, position, type, payload and headers.
-- Gives false, or where the sender is.
local sender = ARGV[1]
if sender ~= '' then
    local found = redis.call('hget', KEYS[1], sender) or ''
    if found ~= ARGV[2] then
        return found
    end
end
for at = 4, #ARGV, 8 do
    redis.call(
        'xadd', KEYS[ARGV[at] + 2], '*',
        'id', ARGV[at + 1], 'stream', ARGV[at + 2], 'version', ARGV[at + 3], 'position', ARGV[at + 4],
        'type', ARGV[at + 5], 'payload', ARGV[at + 6], 'headers', ARGV[at + 7])
end
if sender ~= '' then
    redis.call('hset', KEYS[1], sender, ARGV[3])
end
return false
