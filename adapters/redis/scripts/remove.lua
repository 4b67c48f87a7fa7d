-- Removes a consumer that is no member and holds nothing.
-- KEYS: members, stream, its mail   ARGV: consumer, group
local time = redis.call('TIME')
local deadline = redis.call('ZSCORE', KEYS[1], ARGV[1])
if deadline then
  if tonumber(deadline) > tonumber(time[1]) * 1000 then return 0 end
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[3])
end
if #redis.call('XPENDING', KEYS[2], ARGV[2], '-', '+', 1, ARGV[1]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[2], ARGV[1])
return 1
