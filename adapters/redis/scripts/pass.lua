-- Gives the turn back, if this consumer has it.
-- KEYS: turn, waiting   ARGV: consumer
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1], KEYS[2]) end
return 0
