-- KEYS: marks
-- ARGV: slice length, clock skew, lease in ms, window in ms,
--       then for each: ID, token, digest tag, digest
-- Returns for each: 1 fresh, 2 duplicate, 3 in flight, 4 conflict.
--
-- A lease is a string key: token (8 bytes), digest (16), deadline in ms. It is kept
-- for a window beyond its deadline: one that nobody took over may still complete.
local zero = string.rep('\0', 16)
openMarks(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), 4)
local lease, window = tonumber(ARGV[3]), tonumber(ARGV[4])
read(5, #ARGV, 4)
local results, taken = {}, {}
for i = 5, #ARGV, 4 do
  local id, token, tag, digest = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local mark = find(i)
  local verdict = 1
  if mark then
    verdict = sameContent(mark, tag) and 2 or 4
  else
    local held = redis.call('GET', prefix .. 'lease:' .. id)
    if taken[id] or held and string.sub(held, 1, 8) ~= token and tonumber(string.sub(held, 25)) > now then
      local other = string.sub(held, 9, 24)
      verdict = (other == digest or other == zero or digest == zero) and 3 or 4
    else
      redis.call('SET', prefix .. 'lease:' .. id, token .. digest .. string.format('%.0f', now + lease), 'PX', lease + window)
      taken[id] = true
    end
  end
  results[#results + 1] = verdict
end
return results
