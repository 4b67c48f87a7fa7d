-- Decides who handles entries with a lane. A lane with entries in flight belongs to
-- the member that has them, and what comes later for it is given to that one, in
-- order. Called with the turn, so nobody reads further in between.
--
-- KEYS: members, stream, lanes
-- ARGV: consumer, group, prefix of mail keys, then (lane, entry ID)...
-- Returns false when this consumer is no member, else the indexes given away, from 0; or {-1}
-- when a lane, or an entry, belongs to one that is no member any more.
local consumer, group = ARGV[1], ARGV[2]
if not redis.call('ZSCORE', KEYS[1], consumer) then return false end

-- One that was taken for dead may read once more before it learns of it, and what it
-- read then comes before what is asked for here: take that over first.
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[2], group)) do
  local name, pending = info[2], info[4]
  if pending > 0 and string.sub(name, 1, 6) == 'hapax-' and not redis.call('ZSCORE', KEYS[1], name) then return {-1} end
end

local function later(a, b) -- of two entry IDs; as text, because they have 64 bits
  local am, as = string.match(a, '(%d+)-(%d+)')
  local bm, bs = string.match(b, '(%d+)-(%d+)')
  if am == bm then am, bm = as, bs end
  local less = am < bm
  if #am ~= #bm then less = #am < #bm end
  return less and b or a
end

local members = {}
local function member(name)
  if members[name] == nil then members[name] = redis.call('ZSCORE', KEYS[1], name) or false end
  return members[name]
end

local given = {}
for i = 4, #ARGV, 2 do
  local lane, id = ARGV[i], ARGV[i + 1]
  local owner, last = consumer, id
  local held = redis.call('HGET', KEYS[3], lane)
  if held then
    local holder, newest = string.match(held, '^(.+) (%S+)$')
    last = later(newest, id)
    if holder ~= consumer then
      -- It left or died, and may have left entries that must go first: take those
      -- over, and ask again.
      if not member(holder) then return {-1} end
      owner = holder
    end
  end
  redis.call('HSET', KEYS[3], lane, owner .. ' ' .. last)
  if owner ~= consumer then
    redis.call('XCLAIM', KEYS[2], group, owner, 0, id, 'RETRYCOUNT', 0, 'JUSTID')
    redis.call('SET', ARGV[3] .. owner, 1) -- until it looks, leaves or is taken for dead
    given[#given + 1] = (i - 4) / 2
  end
end
return given
