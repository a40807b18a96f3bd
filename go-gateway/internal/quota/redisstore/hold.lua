-- Has tokens of a day count as used that are charged later, unless they have been.
-- KEYS: hash and leases of one subject, and what says that it has been charged. ARGV: now ('' = this server's), lease,
-- name of the hold, over (1 = nothing is charged for it), day, tokens: as many as were held before at least.
local now, lease, name, over = clock(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local day, tokens = tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local a = load(KEYS[1], KEYS[2])
local before = redis.call('HGET', a.hash, name)
if before then
  local heldDay, held = string.match(before, '^(%d+)|(%d+)$')
  if tonumber(heldDay) == day then tokens = max(tokens, tonumber(held)) end
  endHold(a, name)
end
if over then
  redis.call('ZREM', a.leases, name)
else
  redis.call('ZADD', a.leases, text(now + lease), name)
  redis.call('HSET', a.hash, name, text(day) .. '|' .. text(tokens))
  a.h = a.h + 1
  if a.d < day then a.d, a.u = day, 0 end
  addDay(a, day, tokens)
end
save(a, now, lease)
return 1
