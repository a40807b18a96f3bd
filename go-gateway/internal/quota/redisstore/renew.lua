-- Makes a reservation hold its leases for longer, or again if they have expired meanwhile.
-- KEYS: hash and leases of each subject. ARGV: now ('' = this server's), lease, day; then of each: lease, stream, tokens
-- held of the day.
local now, lease, day = clock(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 1, #KEYS / 2 do
  local a, at = load(KEYS[2 * i - 1], KEYS[2 * i]), 3 + 3 * (i - 1)
  if redis.call('ZADD', a.leases, text(now + lease), ARGV[at + 1]) == 1 then
    a.s = a.s + tonumber(ARGV[at + 2])
    addDay(a, day, tonumber(ARGV[at + 3]))
  end
  save(a, now, lease)
end
return 1
