-- Gives leases back, and takes a member off the list, if its set is named; what is another's is left alone.
--
-- KEYS: the leases.
-- ARGV: the member or what the lease holds, the sorted set of members ('' to stay one).
for _, key in ipairs(KEYS) do
    local holder = redis.call('get', key)
    if holder and string.sub(holder, 1, #ARGV[1]) == ARGV[1] then
        redis.call('del', key)
    end
end
if ARGV[2] ~= '' then
    redis.call('zrem', ARGV[2], ARGV[1])
end
return redis.status_reply('OK')
