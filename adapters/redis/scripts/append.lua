-- Adds entries to a stream, all or none. What the server may refuse (there is no memory, it
-- is a replica, the key is no stream) it refuses at the first write of a script.
-- KEYS: stream   ARGV: UUID, metadata, payload of each
for i = 1, #ARGV, 3 do
  local id = redis.pcall('XADD', KEYS[1], '*', '_watermill_message_uuid', ARGV[i], 'metadata', ARGV[i + 1], 'payload', ARGV[i + 2])
  if type(id) == 'table' then return id end
end
return 0
