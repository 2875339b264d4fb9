-- Removes the messages of a partition before an id, but none that a group has not acknowledged.
--
-- KEYS: the stream.
-- ARGV: the id, whose first part is the time in milliseconds.
-- Gives how many were removed.
local function before(one, other)
    local a, b = string.match(one, '(%d+)-(%d+)')
    local c, d = string.match(other, '(%d+)-(%d+)')
    if tonumber(a) ~= tonumber(c) then
        return tonumber(a) < tonumber(c)
    end
    return tonumber(b) < tonumber(d)
end
if redis.call('exists', KEYS[1]) == 0 then
    return 0
end
local bound = ARGV[1]
for _, group in ipairs(redis.call('xinfo', 'groups', KEYS[1])) do
    local said = {}
    for at = 1, #group, 2 do
        said[group[at]] = group[at + 1]
    end
    local pending = redis.call('xpending', KEYS[1], said['name'])
    local needed = pending[2] or said['last-delivered-id']
    if before(needed, bound) then
        bound = needed
    end
end
return redis.call('xtrim', KEYS[1], 'minid', bound)
