-- KEYS: directory
-- ARGV: slice length, clock skew, lease in ms, renew|complete|release,
--       then for each: ID; token (8) and digest tag (2)
-- Returns for each 1 when the token does not hold the lease, else 0.
open(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
local deadline, what = format('%.0f', now + tonumber(ARGV[3])), ARGV[4]
local ids = {}
for i = 5, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local held = on('leases', 'HMGET', ids)
local results, renewed, done, over = {}, {}, {}, {}
for n, id in ipairs(ids) do
  local arg, lease = ARGV[2 * n + 4], held[n]
  local token, lost = sub(arg, 1, 8), 1
  if lease and sub(lease, 1, 8) == token then
    lost = 0
    if what == 'renew' then
      renewed[#renewed + 1], renewed[#renewed + 2] = id, sub(lease, 1, 24) .. deadline
    else
      over[#over + 1] = id
      done[#done + 1], done[#done + 2] = id, sub(arg, 5)
    end
  elseif what == 'complete' then
    -- The retry of a call whose answer was lost: the mark remembers half the token.
    local marked = marksOf({id})[1]
    if marked and sub(marked, 1, 4) == sub(token, 5) then lost = 0 end
  end
  results[n] = lost
end
on('leases', 'HSET', renewed)
-- The mark first: were it refused, the lease would still be there.
if what == 'complete' and #done > 0 then mark(done) end
on('leases', 'HDEL', over)
return results
