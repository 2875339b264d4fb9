-- Renews the leases of a group's member, and takes partitions that are free, up to its share of those who live.
--
-- KEYS: the sorted set of members (by when they end), and the lease of each partition.
-- ARGV: the member, milliseconds that leases last.
-- Gives the member's share, and for each partition that is its own now the number from 0 and what the lease holds: the
-- member's name and when it was taken, so that one which was lost and taken anew is told from one that was kept.
local member, lasts = ARGV[1], tonumber(ARGV[2])
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('zremrangebyscore', KEYS[1], '-inf', now)
redis.call('zadd', KEYS[1], now + lasts, member)
redis.call('pexpire', KEYS[1], lasts * 2)
local share = math.ceil((#KEYS - 1) / redis.call('zcard', KEYS[1]))
local mine, free = {}, {}
for at = 2, #KEYS do
    local holder = redis.call('get', KEYS[at])
    if holder and string.sub(holder, 1, #member) == member then
        redis.call('pexpire', KEYS[at], lasts)
        mine[#mine + 1] = {at - 2, holder}
    elseif not holder then
        free[#free + 1] = at
    end
end
for _, at in ipairs(free) do
    if #mine < share then
        local holder = member .. ':' .. string.format('%.0f', now)
        redis.call('set', KEYS[at], holder, 'px', lasts)
        mine[#mine + 1] = {at - 2, holder}
    end
end
return {share, mine}
