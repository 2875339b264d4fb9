-- Keeps a message as a dead letter and acknowledges it, in one step, for who holds the partition.
--
-- KEYS: the stream, the lease, the group's dead letters.
-- ARGV: what its lease holds, the group, the id, and the dead letter's fields and values.
-- Gives whether the lease is its own.
if redis.call('get', KEYS[2]) ~= ARGV[1] then
    return false
end
local letter = {}
for at = 4, #ARGV do
    letter[#letter + 1] = ARGV[at]
end
redis.call('xadd', KEYS[3], '*', unpack(letter))
redis.call('xack', KEYS[1], ARGV[2], ARGV[3])
return true
