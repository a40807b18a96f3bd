-- What the scripts of this folder share; it is put in front of each. Times are whole µs since 1970, which Lua's numbers
-- hold exactly. A subject has two keys with the same life: a hash (r: arrival time of requests, t: of tokens, b: given
-- back to the bucket of tokens, d: day, u: tokens of that day, s: streams, h: holds), and a sorted set of leases by their
-- expiry, whose members are id|stream|day|tokens. A hold is a lease that does not run: hold|id, and the hash has its
-- day|tokens in the field of that name.
local MINUTE, DAY = 60000000, 86400000000
local floor, max, min = math.floor, math.max, math.min

local function text(number) return string.format('%.0f', number) end

local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function load(hash, leases)
  local v = redis.call('HMGET', hash, 'r', 't', 'b', 'd', 'u', 's', 'h')
  local n = function(i) return tonumber(v[i] or 0) or 0 end
  return {hash = hash, leases = leases, r = n(1), t = n(2), b = n(3), d = n(4), u = n(5), s = n(6), h = n(7)}
end

local function addDay(a, day, tokens)
  if a.d == day then a.u = max(0, a.u + tokens) end
end

-- Gives back what a hold has, whose lease has ended.
local function endHold(a, name)
  local held = redis.call('HGET', a.hash, name)
  if not held then return end
  local day, tokens = string.match(held, '^(%d+)|(%d+)$')
  redis.call('HDEL', a.hash, name)
  a.h = a.h - 1
  addDay(a, tonumber(day), -tonumber(tokens))
end

-- Ends leases that were not renewed; a thousand at a time, the rest the next time.
local function expire(a, now)
  local expired = redis.call('ZRANGEBYSCORE', a.leases, '-inf', text(now), 'LIMIT', 0, 1000)
  for _, member in ipairs(expired) do
    redis.call('ZREM', a.leases, member)
    if string.sub(member, 1, 5) == 'hold|' then
      endHold(a, member)
    else
      local stream, day, tokens = string.match(member, '|(%d)|(%d+)|(%d+)$')
      a.s = a.s - tonumber(stream)
      addDay(a, tonumber(day), -tonumber(tokens))
    end
  end
  return #expired > 0
end

local function save(a, now, lease)
  redis.call('HSET', a.hash, 'r', text(a.r), 't', text(a.t), 'b', text(a.b), 'd', text(a.d), 'u', text(a.u), 's', text(a.s), 'h', text(a.h))
  local lasts = max(2 * MINUTE, a.r - now, 2 * lease)
  if a.u > 0 then lasts = max(lasts, DAY - now % DAY) end
  local ms = text(floor(lasts / 1000) + 1)
  redis.call('PEXPIRE', a.hash, ms)
  redis.call('PEXPIRE', a.leases, ms)
end
