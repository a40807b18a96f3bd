-- Decides on a request by the limits of all its subjects, and takes what was asked for if all of them let it in.
-- KEYS: hash and leases of each. ARGV: now ('' = this server's), lease, look (1 = decide nothing), counted, runs, stream,
-- min tokens, max tokens, id; then of each: requests a minute, burst, tokens a minute, a day, concurrent requests,
-- concurrent streams, whether it needs a lease.
-- Returns: allowed, granted, now; then of each what is used: requests, tokens, day's tokens, running, streams; and of
-- what was taken: cost, arrival time, given back.
local now, lease, look = clock(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local counted, runs, stream = ARGV[4] == '1', ARGV[5] == '1', ARGV[6] == '1'
local least, granted, id = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local today = floor(now / DAY)
local subjects, allowed = {}, not look

local function used(a)
  a.requests, a.tokens, a.day = max(0, a.r - now), max(0, a.t - now), 0
  if a.d == today then a.day = a.u end
end

for i = 1, #KEYS / 2 do
  local a, at = load(KEYS[2 * i - 1], KEYS[2 * i]), 9 + 7 * (i - 1)
  a.rpm, a.burst, a.tpm, a.tpd = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  a.requestsAtOnce, a.streamsAtOnce, a.leased = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), ARGV[at + 7] == '1'
  a.running = 0
  if a.leased then
    a.changed = expire(a, now)
    a.running = max(0, redis.call('ZCOUNT', a.leases, '(' .. text(now), '+inf') - a.h)
  end
  used(a)
  if a.tpm > 0 then granted = min(granted, floor(max(0, MINUTE - a.tokens) * a.tpm / MINUTE)) end
  if a.tpd > 0 then granted = min(granted, max(0, a.tpd - a.day)) end
  if a.rpm > 0 then a.each = floor((MINUTE + a.rpm - 1) / a.rpm) end
  if counted and a.rpm > 0 and a.requests + a.each > a.each * a.burst then allowed = false end
  if runs and a.requestsAtOnce > 0 and a.running >= a.requestsAtOnce then allowed = false end
  if runs and stream and a.streamsAtOnce > 0 and a.s >= a.streamsAtOnce then allowed = false end
  subjects[i] = a
end
if granted < least then allowed = false end

local reply = {allowed and 1 or 0, granted, now}
for _, a in ipairs(subjects) do
  local cost = 0
  if allowed then
    if counted and a.rpm > 0 then a.r = max(a.r, now) + a.each end
    if a.tpm > 0 and granted > 0 then
      cost = floor((granted * MINUTE + a.tpm - 1) / a.tpm)
      a.t = max(a.t, now) + cost
    end
    if runs and a.leased then
      if a.d ~= today then a.d, a.u = today, 0 end
      local held = 0
      if a.tpd > 0 then held = granted end
      redis.call('ZADD', a.leases, text(now + lease), id .. '|' .. (stream and 1 or 0) .. '|' .. text(today) .. '|' .. text(held))
      a.u, a.running = a.u + held, a.running + 1
      if stream then a.s = a.s + 1 end
    end
    used(a)
  end
  if allowed or a.changed then save(a, now, lease) end
  for _, number in ipairs({a.requests, a.tokens, a.day, a.running, a.s, cost, a.t, a.b}) do reply[#reply + 1] = number end
end
return reply
