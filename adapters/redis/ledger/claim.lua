-- KEYS: marks
-- ARGV: slice length, clock skew, lease in ms, window in ms,
--       then for each: ID; token (8), digest (16) and digest tag (2)
-- Returns for each: 1 fresh, 2 duplicate, 3 in flight, 4 conflict.
--
-- A lease is a field of a hash: token (8 bytes), digest (16), deadline in ms. One that
-- ran out is kept for a window more: if nobody took it over, it may still complete.
local zero = string.rep('\0', 16)
openMarks(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), 4)
local deadline, window = string.format('%.0f', now + tonumber(ARGV[3])), tonumber(ARGV[4])
read(5, #ARGV, 2)
local ids = {}
for i = 5, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local held = onLeases('HMGET', ids)
local results, taken, new = {}, {}, {}
for n, id in ipairs(ids) do
  local claim, mark = ARGV[2 * n + 4], find(2 * n + 3)
  local verdict = 1
  if mark then
    verdict = sameContent(mark, string.sub(claim, 25)) and 2 or 4
  else
    local lease = taken[id] or held[n]
    if taken[id] or lease and string.sub(lease, 1, 8) ~= string.sub(claim, 1, 8) and tonumber(string.sub(lease, 25)) > now then
      local digest, other = string.sub(claim, 9, 24), string.sub(lease, 9, 24)
      verdict = (other == digest or other == zero or digest == zero) and 3 or 4
    else
      taken[id] = string.sub(claim, 1, 24) .. deadline
      new[#new + 1], new[#new + 2] = id, taken[id]
    end
  end
  results[n] = verdict
end
onLeases('HSET', new)

-- A lease whose event never came again is found sooner or later: every call looks at
-- two of them.
local some = redis.call('HRANDFIELD', prefix .. 'leases', 2, 'WITHVALUES')
for i = 1, #some, 2 do
  if tonumber(string.sub(some[i + 1], 25)) + window < now then redis.call('HDEL', prefix .. 'leases', some[i]) end
end
return results
