-- Gives back what a reservation took and did not use, and ends its leases.
-- KEYS: hash and leases of each subject. ARGV: now ('' = this server's), lease, first (0 = it may have been settled), day;
-- then of each: cost not used, its arrival time, what had been given back, lease ('' = none), stream, tokens held of the
-- day, tokens used of it.
local now, lease, first, day = clock(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
for i = 1, #KEYS / 2 do
  local a, at = load(KEYS[2 * i - 1], KEYS[2 * i]), 4 + 7 * (i - 1)
  local unused, arrival, returned = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local member, stream, held, spent = ARGV[at + 4], tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  local ended = member ~= '' and redis.call('ZREM', a.leases, member) == 1
  if ended then
    a.s = a.s - stream
    addDay(a, day, spent - held)
  elseif member ~= '' and first then -- it expired, and all came back
    addDay(a, day, spent)
  end
  if first or ended then
    if unused < 0 then
      a.t = max(a.t, now) - unused
    else
      local refund = max(0, min(unused, arrival - now - max(0, a.b - returned)))
      if refund > 0 then a.t, a.b = max(now, a.t - refund), a.b + refund end
    end
    save(a, now, lease)
  end
end
return 1
