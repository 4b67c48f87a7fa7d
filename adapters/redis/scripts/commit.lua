-- Commits units of work, each all or nothing: mark, publish, acknowledge.
--
-- KEYS: members, input stream, marks, leases' prefix, lanes, then output streams
-- ARGV: consumer, group, slice length (0: nothing is marked), clock skew, delete acknowledged (0|1),
--       number of units, then for each unit
--         number of marks, (ID, digest tag, token or '')...
--         number of outputs, (index of stream in KEYS, UUID, metadata, payload)...
--         number of entries, (entry ID, lane or '')...
-- Returns for each unit: 0 done, 1 duplicate, 2 conflict, 3 lost, or an error text.
local consumer, group = ARGV[1], ARGV[2]
local delete = ARGV[5] == '1'
local units = tonumber(ARGV[6])
local results = {}

-- The fence (I5). Whoever takes over entries of a member removes the member first,
-- for good: a consumer that comes back joins under another name.
if not redis.call('ZSCORE', KEYS[1], consumer) then
  for unit = 1, units do results[unit] = 3 end
  return results
end
local marking = tonumber(ARGV[3]) > 0
if marking then openMarks(KEYS[3], tonumber(ARGV[3]), tonumber(ARGV[4])) end

local at = 6
local function pop()
  at = at + 1
  return ARGV[at]
end

local function owned(first, last)
  for i = first, last, 2 do
    local pending = redis.call('XPENDING', KEYS[2], group, ARGV[i], ARGV[i], 1, consumer)
    if #pending == 0 then return false end
  end
  return true
end

local function commit(firstMark, marks, firstOutput, outputs, firstEntry, entries)
  -- One entry needs no look: XACK itself tells below whether it was pending.
  if entries > 1 and not owned(firstEntry, firstEntry + 2 * entries - 1) then return 3 end
  for i = 0, marks - 1 do -- pessimistic claims: is the lease still this claim's?
    local token = ARGV[firstMark + 3 * i + 2]
    if token ~= '' then
      local lease = redis.call('GET', KEYS[4] .. ARGV[firstMark + 3 * i])
      if not lease or string.sub(lease, 1, 8) ~= token then
        local mark = find(ARGV[firstMark + 3 * i])
        return mark and 1 or 3
      end
    end
  end

  local result = 0
  local marked, published = 0, {}
  for i = 0, marks - 1 do
    local id, digest = ARGV[firstMark + 3 * i], ARGV[firstMark + 3 * i + 1]
    local old = put(id, digest, '')
    if old then
      result = sameContent(old, digest) and 1 or 2
      break
    end
    marked = i + 1
  end
  for i = 0, outputs - 1 do
    if result ~= 0 then break end
    local o = firstOutput + 4 * i
    local stream = KEYS[tonumber(ARGV[o])]
    local id = redis.pcall('XADD', stream, '*',
      '_watermill_message_uuid', ARGV[o + 1], 'metadata', ARGV[o + 2], 'payload', ARGV[o + 3])
    if type(id) == 'table' then -- such as a key of another type
      result = stream .. ': ' .. id.err
    else
      published[#published + 1] = {stream, id}
    end
  end
  if result == 0 then
    for i = 0, entries - 1 do
      if redis.call('XACK', KEYS[2], group, ARGV[firstEntry + 2 * i]) == 0 and entries == 1 then result = 3 end
    end
  end
  if result ~= 0 then -- nobody has seen any of it
    for i = 0, marked - 1 do take(ARGV[firstMark + 3 * i]) end
    for _, output in ipairs(published) do redis.call('XDEL', output[1], output[2]) end
    return result
  end
  for i = 0, marks - 1 do
    if ARGV[firstMark + 3 * i + 2] ~= '' then redis.call('DEL', KEYS[4] .. ARGV[firstMark + 3 * i]) end
  end
  for i = 0, entries - 1 do
    local entry, lane = ARGV[firstEntry + 2 * i], ARGV[firstEntry + 2 * i + 1]
    -- The lane is free when the last entry that was put into it is done.
    if lane ~= '' and redis.call('HGET', KEYS[5], lane) == consumer .. ' ' .. entry then
      redis.call('HDEL', KEYS[5], lane)
    end
    if delete then redis.call('XDEL', KEYS[2], entry) end
  end
  return 0
end

for unit = 1, units do
  local marks = tonumber(pop())
  local firstMark = at + 1
  at = at + 3 * marks
  local outputs = tonumber(pop())
  local firstOutput = at + 1
  at = at + 4 * outputs
  local entries = tonumber(pop())
  local firstEntry = at + 1
  at = at + 2 * entries
  results[unit] = commit(firstMark, marks, firstOutput, outputs, firstEntry, entries)
end
if marking then closeMarks() end
return results
