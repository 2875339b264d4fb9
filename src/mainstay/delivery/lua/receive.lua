-- Reads the next messages of a partition for who holds it: nobody else may, as what is read is taken to be in its hand.
--
-- KEYS: the stream, the lease.
-- ARGV: what its lease holds, the group, messages at most, after which id to read what is in the group's hand ('' for what is new).
-- Gives false if the lease is another's; else the messages, and if there is none the id of the last one of the stream.
if redis.call('get', KEYS[2]) ~= ARGV[1] then
    return false
end
local after = ARGV[4]
if after == '' then
    after = '>'
end
local found = redis.call('xreadgroup', 'group', ARGV[2], 'holder', 'count', ARGV[3], 'streams', KEYS[1], after)
if found and #found[1][2] > 0 then
    return {found[1][2], ''}
end
local last = redis.call('xrevrange', KEYS[1], '+', '-', 'count', 1)
return {{}, last[1] and last[1][1] or '0-0'}
