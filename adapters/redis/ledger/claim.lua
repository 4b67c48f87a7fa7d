-- KEYS: directory
-- ARGV: slice length, clock skew, lease in ms, window in ms,
--       then for each: ID; token (8), digest (16) and digest tag (2)
-- Returns for each: 1 fresh, 2 duplicate, 3 in flight, 4 conflict.
--
-- A lease is a field of a hash: token (8 bytes), digest (16), deadline in ms. One that
-- ran out is kept for a window more: if nobody took it over, it may still complete.
local zero = string.rep('\0', 16)
open(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
local deadline, window = format('%.0f', now + tonumber(ARGV[3])), tonumber(ARGV[4])
local ids = {}
for i = 5, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local marks, held = marksOf(ids), on('leases', 'HMGET', ids)
local results, taken, new = {}, {}, {}
for n, id in ipairs(ids) do
  local claim, marked = ARGV[2 * n + 4], marks[n]
  local verdict = 1
  if marked then
    local tag, other = sub(marked, 5), sub(claim, 25)
    verdict = (tag == other or tag == '\0\0' or other == '\0\0') and 2 or 4
  else
    local lease = taken[id] or held[n]
    if taken[id] or lease and sub(lease, 1, 8) ~= sub(claim, 1, 8) and tonumber(sub(lease, 25)) > now then
      local digest, other = sub(claim, 9, 24), sub(lease, 9, 24)
      verdict = (other == digest or other == zero or digest == zero) and 3 or 4
    else
      taken[id] = sub(claim, 1, 24) .. deadline
      new[#new + 1], new[#new + 2] = id, taken[id]
    end
  end
  results[n] = verdict
end
-- A small hash is kept as a list, through which every look has to go, until it has been
-- given a value of more than 64 bytes (hash-max-listpack-value).
if new[2] then new[2] = new[2] .. string.rep(' ', 64) end
on('leases', 'HSET', new)

-- A lease whose event never came again is found sooner or later: every call looks at
-- two of them.
local some = call('HRANDFIELD', prefix .. 'leases', 2, 'WITHVALUES')
for i = 1, #some, 2 do
  if tonumber(sub(some[i + 1], 25)) + window < now then call('HDEL', prefix .. 'leases', some[i]) end
end
return results
