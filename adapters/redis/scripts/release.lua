-- Drops leases that are still held by their tokens.
-- KEYS: leases' prefix   ARGV: for each: ID, token
for i = 1, #ARGV, 2 do
  local lease = redis.call('GET', KEYS[1] .. ARGV[i])
  if lease and string.sub(lease, 1, 8) == ARGV[i + 1] then
    redis.call('DEL', KEYS[1] .. ARGV[i])
  end
end
return 0
