-- Commits units of work, each all or nothing: mark, publish, acknowledge.
--
-- KEYS: members, input stream, marks, leases' prefix, lanes, windows, then output streams
-- ARGV: consumer, group, slice length (0: nothing is marked), clock skew, delete acknowledged (0|1),
--       shapes: for each unit three numbers of two bytes, of its marks, outputs and entries,
--       streams: for each output one byte, the index in KEYS,
--       laned: for each entry one byte, 1 when it has a lane; then, of all units,
--       the marks: ID (16), digest tag (2), token (8, or none),
--       the outputs: UUID, metadata, payload,
--       the IDs of the entries,
--       the lanes of those that have one
-- Few arguments and few calls: the server pays for each about as much as for storing
-- the message.
-- Returns for each unit: 0 done, 1 duplicate, 2 conflict, 3 lost, or an error text.
local call, sub, byte = redis.call, string.sub, string.byte
local consumer, group, input = ARGV[1], ARGV[2], KEYS[2]
local delete = ARGV[5] == '1'
local shapes, streams, laned = ARGV[6], ARGV[7], ARGV[8]
local results, published = {}, {} -- published: the IDs of the present unit's outputs

-- The fence (I5). Whoever takes over entries of a member removes the member first,
-- for good: a consumer that comes back joins under another name.
if not call('ZSCORE', KEYS[1], consumer) then
  for unit = 1, #shapes / 6 do results[unit] = 3 end
  return results
end

local mark, marked = 9, 0 -- the next one; how many there are
for unit = 1, #shapes, 6 do
  local high, low = byte(shapes, unit, unit + 1)
  marked = marked + high * 256 + low
end
local firstOutput, output, entered = mark + marked, 1, 0
local firstEntry = firstOutput + 3 * #streams
local lane = firstEntry + #laned
local marking = tonumber(ARGV[3]) > 0
if marking then
  openMarks(KEYS[3], tonumber(ARGV[3]), tonumber(ARGV[4]), KEYS[6])
  read(mark, mark + marked - 1, 1)
end

-- Pessimistic claims: is the lease still this claim's? nil when it is.
local function refused(first, last)
  for i = first, last do
    if #ARGV[i] > 18 then
      local lease = call('GET', KEYS[4] .. sub(ARGV[i], 1, 16))
      if not lease or sub(lease, 1, 8) ~= sub(ARGV[i], 19) then return find(i) and 1 or 3 end
    end
  end
  return nil
end

-- Lua has room for 8,000 arguments of a call.
local function acknowledge(first, last)
  if last - first < 5000 then return call('XACK', input, group, unpack(ARGV, first, last)) end
  return acknowledge(first, first + 4999) + acknowledge(first + 5000, last)
end

local function remove(first, last)
  for from = first, last, 5000 do call('XDEL', input, unpack(ARGV, from, math.min(from + 4999, last))) end
end

-- The arguments are positions in ARGV, but for those of outputs, which are counted.
local function commit(firstMark, lastMark, from, to, first, last)
  -- Every entry of a unit of several must be this consumer's. One alone needs no
  -- look: XACK itself tells whether it was pending.
  if last > first then
    for i = first, last do
      if #call('XPENDING', input, group, ARGV[i], ARGV[i], 1, consumer) == 0 then return 3 end
    end
  end
  local result = refused(firstMark, lastMark)
  if result then return result end
  local marked, outputs = firstMark - 1, 0
  result = 0
  for i = firstMark, lastMark do
    local tag = sub(ARGV[i], 17, 18)
    local old = put(i, tag)
    if old then
      result = sameContent(old, tag) and 1 or 2
      break
    end
    marked = i
  end
  for i = from, to do
    if result ~= 0 then break end
    local at, key = firstOutput + 3 * i - 3, KEYS[byte(streams, i)]
    local id = redis.pcall('XADD', key, '*',
      '_watermill_message_uuid', ARGV[at], 'metadata', ARGV[at + 1], 'payload', ARGV[at + 2])
    if type(id) == 'table' then -- such as a key of another type
      result = key .. ': ' .. id.err
    else
      outputs = outputs + 1
      published[outputs] = id
    end
  end
  if result == 0 and last >= first and acknowledge(first, last) == 0 then result = 3 end
  if result ~= 0 then -- nobody has seen any of it
    for i = firstMark, marked do take(i) end
    for i = 1, outputs do call('XDEL', KEYS[byte(streams, from + i - 1)], published[i]) end
    return result
  end
  for i = firstMark, lastMark do
    if #ARGV[i] > 18 then call('DEL', KEYS[4] .. sub(ARGV[i], 1, 16)) end
  end
  if delete then remove(first, last) end
  return 0
end

-- A lane is free when the last entry that was put into it is done.
local function leave(first, last, done)
  for i = first, last do
    if byte(laned, i - firstEntry + 1) == 1 then
      if done and call('HGET', KEYS[5], ARGV[lane]) == consumer .. ' ' .. ARGV[i] then call('HDEL', KEYS[5], ARGV[lane]) end
      lane = lane + 1
    end
  end
end

for unit = 1, #shapes, 6 do
  local a, b, c, d, e, f = byte(shapes, unit, unit + 5)
  local marks, outputs, entries = a * 256 + b, c * 256 + d, e * 256 + f
  local first = firstEntry + entered
  local result = commit(mark, mark + marks - 1, output, output + outputs - 1, first, first + entries - 1)
  leave(first, first + entries - 1, result == 0)
  results[#results + 1] = result
  mark, output, entered = mark + marks, output + outputs, entered + entries
end
if marking then closeMarks() end
return results
