-- Loads entries that are pending for this consumer although it has never seen them:
-- it took them over, was given them, or the answer of its read was lost.
--
-- KEYS: members, stream
-- ARGV: consumer, group, suspicion (deliveries), may take a suspect (0|1), entry IDs...
-- Returns false when this consumer is no member, else
--   {entries {ID, deliveries, fields}, lost IDs, stopped at a suspect (0|1)}
local consumer, group = ARGV[1], ARGV[2]
local suspicion, suspects = tonumber(ARGV[3]), tonumber(ARGV[4])
if not redis.call('ZSCORE', KEYS[1], consumer) then return false end
local entries, lost = {}, {}
for i = 5, #ARGV do
  local id = ARGV[i]
  local p = redis.call('XPENDING', KEYS[2], group, id, id, 1, consumer)[1]
  if p then -- else it has been acknowledged since
    local content = redis.call('XRANGE', KEYS[2], id, id)
    if #content == 0 then
      lost[#lost + 1] = id
      redis.call('XACK', KEYS[2], group, id)
    elseif p[4] >= suspicion and suspects == 0 then
      -- An entry handed out often may be what kills its consumers. Each consumer
      -- takes one of those at a time, so that its count is one of true attempts:
      -- else all that is in the window would be counted with every death, and be
      -- buried for nothing.
      return {entries, lost, 1}
    else
      if p[4] >= suspicion then suspects = 0 end
      redis.call('XCLAIM', KEYS[2], group, consumer, 0, id, 'RETRYCOUNT', p[4] + 1, 'JUSTID')
      entries[#entries + 1] = {id, p[4] + 1, content[1][2]}
    end
  end
end
return {entries, lost, 0}
