-- Marks: the IDs of processed events, in hashes small enough to be listpacks.
-- doc.go explains the layout; this file is the head of every script that marks.
-- One script runs at a time, so a look and the write after it are one step.

local prefix, now, slice -- of the set; server time in ms; its slice of time
local level, split, cursor, passed -- the directory: see doc.go
local dirty, moved -- the directory was changed; buckets were rewritten in this call

local function openMarks(name, sliceLength, skew)
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + skew
  slice = math.floor(now / sliceLength) % 256
  prefix, dirty, moved = name, false, 0
  local directory = redis.call('GET', name)
  if directory then
    level, split, cursor, passed = string.match(directory, '(%d+) (%d+) (%d+) (%d+)')
    level, split, cursor, passed = tonumber(level), tonumber(split), tonumber(cursor), tonumber(passed)
  else
    level, split, cursor, passed = 256, 0, 0, slice
    dirty = true
  end
end

local function key(number)
  return prefix .. ':' .. number
end

-- The bucket of an ID by linear hashing: those below split are split already.
local function hashOf(first, rest)
  local a, b, c = string.byte(rest, 1, 3)
  return first + a * 256 + b * 65536 + c * 16777216
end

local function numberOf(hash)
  local number = hash % level
  if number < split then
    number = hash % (level * 2)
  end
  return number
end

-- A mark lives for its slice and eight more. One that lies in the future comes
-- from a server whose clock was ahead, before a fail-over: it lives too.
local function lives(mark)
  local age = (slice - string.byte(mark, 1)) % 256
  return age <= 8 or age >= 240
end

-- Why the bucket's dead marks are dropped while it is rewritten: nothing else
-- would, and it costs nothing more.
local function splitNext()
  local fields = redis.call('HGETALL', key(split))
  local first = split % 256
  local low, high = {}, {}
  for i = 1, #fields, 2 do
    if lives(fields[i + 1]) then
      local half = low
      if hashOf(first, fields[i]) % (level * 2) ~= split then
        half = high
      end
      half[#half + 1] = fields[i]
      half[#half + 1] = fields[i + 1]
    end
  end
  redis.call('DEL', key(split))
  if #low > 0 then redis.call('HSET', key(split), unpack(low)) end
  if #high > 0 then redis.call('HSET', key(split + level), unpack(high)) end
  split = split + 1
  if split == level then
    level, split = level * 2, 0
  end
  dirty = true
end

-- Drops a bucket's dead marks and returns how many live.
local function tidy(number)
  local fields = redis.call('HGETALL', key(number))
  local dead = {}
  for i = 1, #fields, 2 do
    if not lives(fields[i + 1]) then dead[#dead + 1] = fields[i] end
  end
  if #dead > 0 then redis.call('HDEL', key(number), unpack(dead)) end
  return #fields / 2 - #dead
end

-- Redis keeps a hash compact up to 128 fields. Its length is looked at after
-- every fourth mark, so that a bucket hardly ever gets there unseen.
local function grown(number, rest)
  if string.byte(rest, 15) % 4 == 0 and moved < 4 and redis.call('HLEN', key(number)) > 104 then
    moved = moved + 1
    if tidy(number) > 90 then splitNext() end
  end
end

-- The mark of an ID, or nil.
local function find(id)
  local rest = string.sub(id, 2)
  local mark = redis.call('HGET', key(numberOf(hashOf(string.byte(id, 1), rest))), rest)
  if mark and lives(mark) then return mark end
  return nil
end

local function sameContent(mark, digest)
  local other = string.sub(mark, 2, 3)
  return other == digest or other == '\0\0' or digest == '\0\0'
end

-- Marks an ID and returns nil, or returns the mark that it has already.
local function put(id, digest, owner)
  local rest = string.sub(id, 2)
  local number = numberOf(hashOf(string.byte(id, 1), rest))
  local mark = string.char(slice) .. digest .. owner
  if redis.call('HSETNX', key(number), rest, mark) == 0 then
    local old = redis.call('HGET', key(number), rest)
    if lives(old) then return old end
    redis.call('HSET', key(number), rest, mark)
  end
  grown(number, rest)
  return nil
end

local function take(id) -- undoes put
  local rest = string.sub(id, 2)
  redis.call('HDEL', key(numberOf(hashOf(string.byte(id, 1), rest))), rest)
end

-- Tidies one bucket a call, until all have been visited in this slice of time,
-- and stores the directory.
local function closeMarks()
  if passed ~= slice then
    passed, cursor, dirty = slice, 0, true
  end
  if cursor < level + split then
    tidy(cursor)
    cursor, dirty = cursor + 1, true
  end
  if dirty then
    redis.call('SET', prefix, string.format('%d %d %d %d', level, split, cursor, passed))
  end
end
