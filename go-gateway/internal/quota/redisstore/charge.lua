-- Counts what was used: once, however often it is told; and ends what was held for it.
-- KEYS: hash and leases of one subject, and what says that it has been counted. ARGV: now ('' = this server's), lease,
-- µs of requests, µs of tokens, day, tokens of that day, name of the hold.
-- Returns what is used: requests, tokens, day's tokens.
local now, lease = clock(ARGV[1]), tonumber(ARGV[2])
local requests, tokens, ofDay, name = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6]), ARGV[7]
local today = floor(now / DAY)
local day = min(tonumber(ARGV[5]), today)
local a = load(KEYS[1], KEYS[2])
local held = redis.call('ZREM', a.leases, name) == 1
if held then endHold(a, name) end
-- It is known for as long as it could count again: the day's tokens do not matter after that.
local first = redis.call('SET', KEYS[3], '1', 'NX', 'PX', text(floor((10 * MINUTE + DAY - now % DAY) / 1000)))
if first then
  a.r, a.t = max(a.r, now) + requests, max(a.t, now) + tokens
  if ofDay > 0 and a.d < day then a.d, a.u = day, 0 end
  addDay(a, day, ofDay)
end
if first or held then save(a, now, lease) end
local used = 0
if a.d == today then used = a.u end
return {max(0, a.r - now), max(0, a.t - now), used}
