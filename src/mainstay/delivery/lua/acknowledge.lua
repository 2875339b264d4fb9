-- Acknowledges messages for who holds the partition.
--
-- KEYS: the stream, the lease.
-- ARGV: what its lease holds, the group, ids.
-- Gives whether the lease is its own.
if redis.call('get', KEYS[2]) ~= ARGV[1] then
    return false
end
for at = 3, #ARGV do
    redis.call('xack', KEYS[1], ARGV[2], ARGV[at])
end
return true
