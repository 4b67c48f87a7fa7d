-- Marks: the IDs of processed events, packed into strings. doc.go explains the
-- layout; this file is the head of every script that marks. One script runs at a
-- time, so a look and the write after it are one step.

local call, byte, sub, search, char = redis.call, string.byte, string.sub, string.find, string.char
local format = string.format -- a number is turned into text faster by it than by ..
local prefix, now, slice -- of the set; server time in ms; its slice of time, 1 to 255
local size = 18 -- of a record: ID without its first byte (15), slice (1), tag (2)
local blank = string.rep('\0', size)
local level, split, cursor, passed, count, seen -- the directory: see doc.go
local current -- the slice of time, counted from the epoch
local dirty -- the directory was changed

-- Marks that the same handler made under other windows: see doc.go.
local windows, base, window -- key of the hash; what the keys of all sets begin with; the own one
local noted -- the hash tells of marks in this slice of time
local elsewhere, stale = {}, {} -- tags found in other sets, by position in ARGV; windows that are over

-- The bucket of an ID by linear hashing: those below split are split already.
local function bucketOf(id)
  local a, b, c, d = byte(id, 1, 4)
  local hash = a + b * 256 + c * 65536 + d * 16777216
  local number = hash % level
  if number < split then number = hash % (level * 2) end
  return format('%s%d', prefix, number)
end

-- A mark lives for its slice and eight more. One that lies in the future comes
-- from a server whose clock was ahead, before a fail-over: it lives too.
local function lives(marked)
  if marked == 0 then return false end -- a free place
  local age = (slice - marked) % 255
  return age <= 8 or age >= 239
end

-- Where the record of an ID is in a bucket. What looks like an ID across two
-- records is none.
local function locate(bucket, rest)
  local at = search(bucket, rest, 1, true)
  while at and (at - 1) % size ~= 0 do at = search(bucket, rest, at + 1, true) end
  return at
end

-- Where a bucket has a free place, or nil. Zeros may begin in the record before it.
local function free(bucket)
  local at = search(bucket, blank, 1, true)
  if not at then return nil end
  at = math.ceil((at - 1) / size) * size + 1
  if byte(bucket, at + 15) == 0 then return at end
  return nil
end

-- Sizes in which the server's allocator has memory to give. A bucket always fills
-- one, with free places at its end: it wastes nothing more, and most marks are
-- written in place.
local sizes = {80, 112, 160, 224, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096}

local perBucket = 28 -- records for a bucket, above which one is divided

-- Writes a bucket that consists of two strings, with its free places.
local function store(name, some, more)
  local needed = #some + #more
  local room = needed
  for i = 1, #sizes do
    room = sizes[i] - 6 - (sizes[i] - 6) % size -- 6: what the server's string adds
    if room >= needed then break end
  end
  call('SET', name, some .. more .. string.rep('\0', room - needed))
end

-- The living records of a bucket, and how many are dead. Those that belong to
-- another bucket after a split go to high: one bit of the hash tells, and the hash is
-- the ID's first four bytes, the lowest first.
local function sift(bucket, low, high)
  local dead, place, bit = 0, 0, level
  while bit >= 256 do bit, place = bit / 256, place + 1 end
  for at = 1, #bucket, size do
    local marked = byte(bucket, at + 15)
    if marked == slice or lives(marked) then
      local into = low
      -- place counts from the first byte, which a record does not have
      if high and byte(bucket, at + place - 1) % (2 * bit) >= bit then into = high end
      into[#into + 1] = sub(bucket, at, at + size - 1)
    elseif marked ~= 0 then
      dead = dead + 1
    end
  end
  return dead
end

-- Where a bucket has a record that is dead, or nil.
local function firstDead(bucket)
  for at = 16, #bucket, size do
    local marked = byte(bucket, at)
    if marked ~= slice and marked ~= 0 and not lives(marked) then return at - 15 end
  end
  return nil
end

local function rewrite(name, records)
  if #records > 0 then store(name, table.concat(records), '') else call('DEL', name) end
end

-- Divides the next bucket in turn. Dead marks are dropped on the way.
local function splitNext()
  local bucket = call('GET', prefix .. split)
  if bucket then
    local low, high = {}, {}
    count = count - sift(bucket, low, high)
    rewrite(prefix .. split, low)
    if #high > 0 then rewrite(prefix .. split + level, high) end
  end
  split = split + 1
  if split == level then level, split = level * 2, 0 end
  dirty = true
end

-- Drops a bucket's dead marks.
local function tidy(number)
  local bucket = call('GET', prefix .. number)
  if not bucket or not firstDead(bucket) then return end
  local living = {}
  count = count - sift(bucket, living)
  rewrite(prefix .. number, living)
end

-- The directory, with the time of the call that stored it. Who lost it, to a server that
-- may evict keys, finds more dead marks than it has counted.
local function storeDirectory()
  count = math.max(count, 0)
  call('SET', sub(prefix, 1, -2), string.format('%d %d %d %d %d %d', level, split, cursor, passed, count, current))
end

local function openMarks(name, sliceLength, skew, handlersWindows)
  local time = call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + skew
  current = math.floor(now / sliceLength)
  slice = current % 255 + 1
  prefix = name .. ':'
  windows = handlersWindows
  base, window = string.match(name, '^(.*:)(%d+)$')
  local directory = call('GET', name)
  dirty = not directory
  level, split, cursor, passed, count, seen = string.match(directory or '256 0 0 0 0', '(%d+) (%d+) (%d+) (%d+) (%d+) ?(%d*)')
  level, split, cursor, passed, count = tonumber(level), tonumber(split), tonumber(cursor), tonumber(passed), tonumber(count)
  seen = tonumber(seen) or current
  if current - seen > 100 then -- nobody has marked for so long: all are dead, and must not come to life
    for bucket = 0, level + split - 1 do call('DEL', prefix .. bucket) end
    level, split, cursor, passed, count, seen = 256, 0, 0, 0, 0, current
    storeDirectory()
  end
end

-- Buckets of the IDs to be looked at, read in one call: a call costs more than a
-- look. What is written to is forgotten, and read again.
local names, buckets = {}, {}

local function readBuckets(first, last, step)
  local list = {}
  for i = first, last, step do
    names[i] = bucketOf(ARGV[i])
    list[#list + 1] = names[i]
  end
  for from = 1, #list, 1000 do
    local to = math.min(from + 999, #list)
    for i, bucket in ipairs(call('MGET', unpack(list, from, to))) do buckets[list[from + i - 1]] = bucket end
  end
end

local function bucketFor(i)
  local name = names[i]
  local bucket = buckets[name]
  if bucket == nil then
    bucket = call('GET', name)
    buckets[name] = bucket
  end
  return bucket, name
end

-- The tag of the mark of the ID that ARGV[i] begins with, or nil. It has been read.
local function find(i)
  if elsewhere[i] then return elsewhere[i] end
  local bucket = bucketFor(i)
  local at = bucket and locate(bucket, sub(ARGV[i], 2, 16))
  if not at or not lives(byte(bucket, at + 15)) then return nil end
  return sub(bucket, at + 16, at + 17)
end

-- Looks the IDs up in the set of another window.
local function lookIn(other, otherSlice, first, last, step)
  local directory = call('GET', base .. other)
  if not directory then return end
  local own = {prefix, level, split, slice}
  level, split = string.match(directory, '(%d+) (%d+)')
  level, split = tonumber(level), tonumber(split)
  prefix, slice = base .. other .. ':', otherSlice % 255 + 1
  readBuckets(first, last, step)
  for i = first, last, step do elsewhere[i] = find(i) end
  prefix, level, split, slice = unpack(own)
end

-- The slice of time now, of another window.
local function sliceOf(other) return math.floor(now / math.max(math.floor(tonumber(other) / 8), 1)) end

-- Reads what is known of the IDs that are to be looked at, in this set and in those of
-- other windows under which the handler's marks may still live.
local function read(first, last, step)
  local known = call('HGETALL', windows)
  for i = 1, #known, 2 do
    local marked = tonumber(string.match(known[i + 1], '%d+'))
    if known[i] == window then
      noted = marked == current
    elseif sliceOf(known[i]) - marked > 8 then
      stale[#stale + 1] = known[i]
    else
      lookIn(known[i], sliceOf(known[i]), first, last, step)
    end
  end
  readBuckets(first, last, step)
end

local function sameContent(tag, other)
  return tag == other or tag == '\0\0' or other == '\0\0'
end

-- Marks the ID that ARGV[i] begins with and returns nil, or returns the tag of the
-- mark that it has already. The ID has been read.
local function put(i, tag)
  if elsewhere[i] then return elsewhere[i] end
  local bucket, name = bucketFor(i)
  local rest = sub(ARGV[i], 2, 16)
  local record = rest .. char(slice) .. tag
  if not bucket then
    store(name, record, '')
  else
    local at = locate(bucket, rest)
    if at and lives(byte(bucket, at + 15)) then return sub(bucket, at + 16, at + 17) end
    local over = at -- a dead mark to write over, of this ID or, rather than to grow, of any
    if not at then
      at = free(bucket)
      if not at and #bucket >= perBucket * size * 3 / 4 then over = firstDead(bucket) end
    end
    if over then count = count - 1 end
    if at or over then
      call('SETRANGE', name, (at or over) - 1, record)
    else
      store(name, bucket, record)
    end
  end
  buckets[name] = nil
  count, dirty = count + 1, true
  return nil
end

local function take(i) -- undoes put
  local bucket, name = bucketFor(i)
  call('SETRANGE', name, locate(bucket, sub(ARGV[i], 2, 16)) - 1, blank)
  buckets[name] = nil
  count = count - 1
end

-- Removes a window that the handler has not marked under for so long that all of it is
-- over; and its set, a part a call, unless other handlers use that. The hash keeps how
-- many buckets are left.
local function dropWindow(other)
  local directory = call('GET', base .. other)
  local level, split, used = string.match(directory or '0 0 0 0 0 0', '(%d+) (%d+) %d+ %d+ %d+ ?(%d*)')
  if directory and sliceOf(other) - (tonumber(used) or 0) > 8 then
    local marked, left = string.match(call('HGET', windows, other), '(%d+) ?(%d*)')
    left = tonumber(left) or level + split
    local doomed = {}
    for bucket = math.max(left - 1000, 0), left - 1 do doomed[#doomed + 1] = base .. other .. ':' .. bucket end
    call('UNLINK', unpack(doomed))
    if left > 1000 then
      call('HSET', windows, other, string.format('%d %d', marked, left - 1000))
      return
    end
    call('DEL', base .. other)
  end
  call('HDEL', windows, other)
end

-- Makes room for what was marked, tidies a few buckets a call until all have been
-- visited in this slice of time, and stores the directory. A slice comes again after
-- 255: so that no dead mark is taken for a living one then, all buckets are visited
-- within 100, however rare the calls are.
local function closeMarks()
  for _ = 1, 16 do
    if count <= perBucket * (level + split) then break end
    splitNext()
  end
  for _ = 1, math.min(math.max(2, math.ceil((level + split) * (current - seen) / 100)), level + split) do
    if cursor >= level + split then
      if passed == slice then break end
      cursor, passed = 0, slice
    end
    tidy(cursor)
    cursor, dirty = cursor + 1, true
  end
  if dirty then
    storeDirectory()
    if not noted then call('HSET', windows, window, current) end
  end
  if stale[1] then dropWindow(stale[1]) end
end
