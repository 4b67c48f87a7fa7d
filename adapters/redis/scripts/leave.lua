-- Leaves the group. What the member still holds stays pending in its name, for the
-- next one whose turn it is. A consumer that holds nothing is removed; removing one
-- that holds something would drop it.
-- KEYS: members, stream, turn, waiting, mail   ARGV: consumer, group
redis.call('ZREM', KEYS[1], ARGV[1])
if redis.call('GET', KEYS[3]) == ARGV[1] then redis.call('DEL', KEYS[3], KEYS[4]) end
redis.call('DEL', KEYS[5])
if #redis.call('XPENDING', KEYS[2], ARGV[2], '-', '+', 1, ARGV[1]) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[2], ARGV[1])
  return 1
end
return 0
