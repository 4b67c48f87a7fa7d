-- Takes the group's turn to read, or renews it, and takes over what belongs to
-- nobody any more.
--
-- KEYS: members, stream, turn, waiting, mail of this consumer, lanes
-- ARGV: consumer, group, lease in ms, a lane is known to have a dead owner (0|1)
-- Returns false when this consumer is no member, else
--   {has the turn (0|1), has mail (0|1), entries taken over, fenced consumers,
--    entries that were trimmed before they were acknowledged: lost, entries pending
--    for this consumer before it took any over; 0 without the turn}
local consumer, group, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if not redis.call('ZSCORE', KEYS[1], consumer) then return false end

-- The fence. Whoever's lease is over stops being a member, for good: from here on
-- all its commits are refused, whatever it holds (I5).
local fenced = {}
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  if dead ~= consumer then
    redis.call('ZREM', KEYS[1], dead)
    redis.call('DEL', string.sub(KEYS[5], 1, -#consumer - 1) .. dead) -- its mail
    fenced[#fenced + 1] = dead
  end
end

local holder = redis.call('GET', KEYS[3])
local mail = redis.call('DEL', KEYS[5])
if holder and holder ~= consumer and redis.call('ZSCORE', KEYS[1], holder) then
  redis.call('SET', KEYS[4], 1, 'PX', lease)
  return {0, mail, 0, fenced, {}, 0}
end
redis.call('SET', KEYS[3], consumer)

-- What members left or died with is taken over at once, all of it: until it has an
-- owner, nobody could keep the order of its keys. What other programs read and
-- forgot is taken over when it has been idle for the lease.
local taken, lost, mine = 0, {}, 0
for _, list in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[2], group)) do
  local info = {}
  for i = 1, #list, 2 do info[list[i]] = list[i + 1] end
  local name = info['name']
  if name == consumer then mine = info['pending'] end
  if info['pending'] > 0 and name ~= consumer and not redis.call('ZSCORE', KEYS[1], name) then
    local own = string.sub(name, 1, 6) == 'hapax-'
    local from = '-'
    repeat
      local pending
      if own then
        pending = redis.call('XPENDING', KEYS[2], group, from, '+', 500, name)
      else
        pending = redis.call('XPENDING', KEYS[2], group, 'IDLE', lease, from, '+', 500, name)
      end
      for _, p in ipairs(pending) do
        from = '(' .. p[1]
        if #redis.call('XRANGE', KEYS[2], p[1], p[1]) > 0 then
          redis.call('XCLAIM', KEYS[2], group, consumer, 0, p[1], 'RETRYCOUNT', p[4], 'JUSTID')
        else
          redis.call('XACK', KEYS[2], group, p[1])
          lost[#lost + 1] = p[1]
        end
        taken = taken + 1
      end
    until #pending < 500
    if own and #redis.call('XPENDING', KEYS[2], group, '-', '+', 1, name) == 0 then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[2], group, name)
    end
  end
end

-- With the entries go the lanes, before anybody reads further for them.
if taken > 0 or ARGV[4] == '1' then
  local lanes = redis.call('HGETALL', KEYS[6])
  for i = 1, #lanes, 2 do
    local owner, last = string.match(lanes[i + 1], '^(.+) (%S+)$')
    if not redis.call('ZSCORE', KEYS[1], owner) then
      redis.call('HSET', KEYS[6], lanes[i], consumer .. ' ' .. last)
    end
  end
end
return {1, mail, taken, fenced, lost, mine}
