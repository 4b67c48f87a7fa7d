-- Trims a stream, never beyond what every group has acknowledged.
-- KEYS: stream   ARGV: most entries (0: any), oldest time in ms (0: any)
-- Returns {entries removed, groups that have lost entries they never read...}.
local function less(a, b)
  local am, as = string.match(a, '(%d+)-(%d+)')
  local bm, bs = string.match(b, '(%d+)-(%d+)')
  -- As text: a Lua number cannot hold 64 bits, which sequence numbers may have.
  local function smaller(x, y)
    if #x ~= #y then return #x < #y end
    return x < y
  end
  if am ~= bm then return smaller(am, bm) end
  return smaller(as, bs)
end

local function fields(list)
  local t = {}
  for i = 1, #list, 2 do t[list[i]] = list[i + 1] end
  return t
end

local stream = KEYS[1]
if redis.call('EXISTS', stream) == 0 then return {0} end
local info = fields(redis.call('XINFO', 'STREAM', stream))
local added, length = info['entries-added'], info['length'] -- added: since version 7
local result = {0}
local floor
for _, g in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = fields(g)
  local low = group['last-delivered-id']
  -- What was added and not read must be there, if the stream begins above it.
  local read, first = group['entries-read'], info['first-entry'] and info['first-entry'][1]
  if added and read and read > 0 and added - read > 0 and (not first or less(low, first)) and added - read > length then
    result[#result + 1] = group['name']
  end
  local pending = redis.call('XPENDING', stream, group['name'])
  -- MINID keeps its own ID and what is above. The last entry read may go too, but
  -- nobody misses the space of one.
  if pending[1] > 0 and less(pending[2], low) then low = pending[2] end
  if not floor or less(low, floor) then floor = low end
end
local most, oldest = tonumber(ARGV[1]), ARGV[2]
if not floor or floor == '0-0' then return result end
if oldest ~= '0' then
  local limit = floor
  if less(oldest .. '-0', floor) then limit = oldest .. '-0' end
  result[1] = redis.call('XTRIM', stream, 'MINID', '~', limit, 'LIMIT', 10000)
end
if most > 0 then
  local surplus = redis.call('XLEN', stream) - most
  if surplus > 0 then
    result[1] = result[1] + redis.call('XTRIM', stream, 'MINID', '~', floor, 'LIMIT', math.min(surplus, 10000))
  end
end
return result
