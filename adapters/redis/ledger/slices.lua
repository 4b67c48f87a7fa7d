-- Records of IDs: the head of the ledger's scripts. doc.go explains the layout. One
-- script runs at a time, so a look and the write after it are one step.
--
-- KEYS: directory
-- ARGV: slice length, clock skew, lease in ms, what to do; the IDs; what is known of
--       all of them, in one string
local call, sub, format = redis.call, string.sub, string.format
local first, count, known = 5, #ARGV - 5, ARGV[#ARGV] -- the first ID, how many there are
local prefix = KEYS[1] .. ':'
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[2])
local deadline = now + tonumber(ARGV[3])
local reach = 8 -- a record lives for its slice and so many more: marks.Slices
local living = {} -- the slices there are

-- A slice is named by its number and its length: a ledger whose window was changed finds
-- what was marked under the one before, for as long as that was to last.
local function sliceOf(ms) return format('%.0f/%s', math.floor(ms / tonumber(ARGV[1])), ARGV[1]) end

local function storeDirectory()
  if #living > 0 then call('SET', KEYS[1], table.concat(living, ' ')) else call('DEL', KEYS[1]) end
end

-- A slice in the future is one of leases, or of a server whose clock was ahead, before a
-- fail-over: it lives too. UNLINK frees what is over in a thread of its own.
local function open()
  local over = {}
  for slice in string.gmatch(call('GET', KEYS[1]) or '', '%S+') do
    local number, length = string.match(slice, '(%d+)/(%d+)')
    if (number + reach + 1) * length > now then living[#living + 1] = slice else over[#over + 1] = prefix .. slice end
  end
  if #over > 0 then
    call('UNLINK', unpack(over))
    storeDirectory()
  end
end

-- The records of the IDs, each in the place of its ID, and which slice they lie in. One
-- call for many of them: a call costs more than a field.
local function find()
  local records, where, left = {}, {}, count
  for s = #living, 1, -1 do -- what is asked for most lies in the newest
    for from = 0, count - 1, 1000 do
      local to = math.min(from + 1000, count)
      local some = call('HMGET', prefix .. living[s], unpack(ARGV, first + from, first + to - 1))
      for i = 1, to - from do
        if some[i] then records[from + i], where[from + i], left = some[i], living[s], left - 1 end
      end
    end
    if left == 0 then break end
  end
  return records, where
end

-- Stores records, a list of IDs and values, in a slice. The directory names a slice before
-- it has any: one that it did not name would not be looked into.
local function store(slice, list)
  if #list == 0 then return end
  local named = false
  for _, other in ipairs(living) do named = named or other == slice end
  if not named then
    living[#living + 1] = slice
    storeDirectory()
  end
  for from = 1, #list, 1000 do
    call('HSET', prefix .. slice, unpack(list, from, math.min(from + 999, #list)))
  end
end

-- Removes a record.
local function drop(slice, id) call('HDEL', prefix .. slice, id) end
