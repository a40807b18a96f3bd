-- Counts what a gateway let in by itself: once, however often it is told.
-- KEYS: hash and leases of one subject, and what says that it has been counted. ARGV: now ('' = this server's), lease,
-- µs of requests, µs of tokens, day, tokens of that day.
-- Returns what is used: requests, tokens, day's tokens.
local now, lease = clock(ARGV[1]), tonumber(ARGV[2])
local requests, tokens, day, ofDay = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local a = load(KEYS[1], KEYS[2])
if redis.call('SET', KEYS[3], '1', 'NX', 'PX', text(10 * MINUTE / 1000)) then
  a.r, a.t = max(a.r, now) + requests, max(a.t, now) + tokens
  if ofDay > 0 and a.d < day then a.d, a.u = day, 0 end
  addDay(a, day, ofDay)
  save(a, now, lease)
end
local today = 0
if a.d == floor(now / DAY) then today = a.u end
return {max(0, a.r - now), max(0, a.t - now), today}
