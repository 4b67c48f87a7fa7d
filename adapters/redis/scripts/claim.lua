-- Looks IDs up, and under pessimistic claims leases those that are fresh.
--
-- KEYS: members, marks, leases' prefix, windows
-- ARGV: consumer ('': nobody claims, it is only a question), slice length, clock skew, TTL of a lease in ms,
--       then for each: ID (16), digest tag (2), token (8, or none)
-- Returns for each ID: 1 fresh, 2 duplicate, 3 in flight, 4 conflict; or false when
-- the consumer was taken for dead: it need not begin what it cannot commit.
--
-- A lease has no deadline of its own: it stands as long as its consumer does, whose
-- heartbeat so keeps all its leases. The TTL only bounds how long the lease of a
-- consumer that nobody followed is kept.
if ARGV[1] ~= '' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return false end
openMarks(KEYS[2], tonumber(ARGV[2]), tonumber(ARGV[3]), KEYS[4])
read(5, #ARGV, 1)
local consumer = ARGV[1]
local results = {}
for i = 5, #ARGV do
  local mark = find(i)
  local verdict = 1
  if mark then
    verdict = sameContent(mark, string.sub(ARGV[i], 17, 18)) and 2 or 4
  elseif #ARGV[i] > 18 then
    local id, digest, token = string.sub(ARGV[i], 1, 16), string.sub(ARGV[i], 17, 18), string.sub(ARGV[i], 19)
    local lease = redis.call('GET', KEYS[3] .. id)
    if lease and string.sub(lease, 1, 8) ~= token then
      local other = string.sub(lease, 9, 10)
      local owner = string.sub(lease, 11)
      local deadline = redis.call('ZSCORE', KEYS[1], owner)
      if deadline and tonumber(deadline) > now then
        if other ~= digest and other ~= '\0\0' and digest ~= '\0\0' then verdict = 4 else verdict = 3 end
      end
    end
    if verdict == 1 then
      redis.call('SET', KEYS[3] .. id, token .. digest .. consumer, 'PX', ARGV[4])
    end
  end
  results[#results + 1] = verdict
end
return results
