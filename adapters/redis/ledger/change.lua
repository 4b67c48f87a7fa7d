-- KEYS: marks
-- ARGV: slice length, clock skew, lease in ms, renew|complete|release,
--       then for each: ID; token (8) and digest tag (2)
-- Returns for each 1 when the token does not hold the lease, else 0.
openMarks(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), 4)
local deadline, what = string.format('%.0f', now + tonumber(ARGV[3])), ARGV[4]
local completing = what == 'complete'
if completing then read(5, #ARGV, 2) end
local ids = {}
for i = 5, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local held = onLeases('HMGET', ids)
local results, renewed, over = {}, {}, {}
for n, id in ipairs(ids) do
  local token, lease = string.sub(ARGV[2 * n + 4], 1, 8), held[n]
  local lost = 1
  if lease and string.sub(lease, 1, 8) == token then
    lost = 0
    if what == 'renew' then
      renewed[#renewed + 1], renewed[#renewed + 2] = id, string.sub(lease, 1, 24) .. deadline
    else
      if completing then put(2 * n + 3, string.sub(ARGV[2 * n + 4], 9), string.sub(token, 5)) end
      over[#over + 1] = id
    end
  elseif completing then
    -- The retry of a call whose answer was lost: the mark remembers half the token.
    local _, owner = find(2 * n + 3)
    if owner == string.sub(token, 5) then lost = 0 end
  end
  results[n] = lost
end
onLeases('HSET', renewed)
onLeases('HDEL', over)
if completing then closeMarks() end
return results
