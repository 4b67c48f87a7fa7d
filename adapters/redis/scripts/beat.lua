-- Renews a member's lease and keeps its slow entries from growing idle.
-- KEYS: members, stream
-- ARGV: consumer, group, lease in ms, join (0|1), then entry IDs
-- Returns false when the member was taken for dead, else the entries that exist no
-- more although they were not acknowledged.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[4] == '0' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return false end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
local gone = {}
for i = 5, #ARGV do
  local id = ARGV[i]
  -- XCLAIM would drop an entry from the pending list whose message was trimmed.
  -- This consumer still has it in memory, and its commit should find it pending.
  if #redis.call('XRANGE', KEYS[2], id, id) == 0 then
    gone[#gone + 1] = id
  elseif #redis.call('XPENDING', KEYS[2], ARGV[2], id, id, 1, ARGV[1]) == 1 then
    redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[1], 0, id, 'JUSTID')
  end
end
return gone
