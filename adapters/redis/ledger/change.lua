-- KEYS: marks
-- ARGV: slice length, clock skew, lease in ms, window in ms, renew|complete|release,
--       then for each: ID, token, digest tag
-- Returns for each 1 when the token does not hold the lease, else 0.
openMarks(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), 4)
local lease, window, what = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
read(6, #ARGV, 3)
local results = {}
for i = 6, #ARGV, 3 do
  local id, token, tag = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local key = prefix .. 'lease:' .. id
  local held = redis.call('GET', key)
  local lost = 1
  if held and string.sub(held, 1, 8) == token then
    lost = 0
    if what == 'renew' then
      redis.call('SET', key, string.sub(held, 1, 24) .. string.format('%.0f', now + lease), 'PX', lease + window)
    elseif what == 'release' then
      redis.call('DEL', key)
    else
      put(i, tag, string.sub(token, 5))
      redis.call('DEL', key)
    end
  elseif what == 'complete' then
    -- The retry of a call whose answer was lost: the mark remembers half the token.
    local _, owner = find(i)
    if owner == string.sub(token, 5) then lost = 0 end
  end
  results[#results + 1] = lost
end
if what == 'complete' then closeMarks() end
return results
