-- Leases and marks: the head of the ledger's scripts. doc.go explains the layout. One
-- script runs at a time, so a look and the write after it are one step.
local call, sub, format = redis.call, string.sub, string.format
local directory, prefix, now -- keys; the server's time in ms
local current, living -- the slice of time, and those that may have living marks
local reach = 8 -- a mark lives for its slice and so many more

local function storeDirectory()
  if #living > 0 then call('SET', directory, table.concat(living, ' ')) else call('DEL', directory) end
end

-- A slice in the future is of a server whose clock was ahead, before a fail-over: it
-- lives too. UNLINK frees what is over in a thread of its own.
local function open(name, sliceLength, skew)
  local time = call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + skew
  current = math.floor(now / sliceLength)
  directory, prefix, living = name, name .. ':', {}
  local over = {}
  for slice in string.gmatch(call('GET', directory) or '', '%d+') do
    if tonumber(slice) >= current - reach then living[#living + 1] = slice else over[#over + 1] = prefix .. slice end
  end
  if #over > 0 then
    call('UNLINK', unpack(over))
    storeDirectory()
  end
end

-- What a command answers for one hash, of fields, or of fields and values. One call for
-- many of them: a call costs more than a field.
local function on(hash, command, list)
  local answers = {}
  for from = 1, #list, 1000 do
    local some = call(command, prefix .. hash, unpack(list, from, math.min(from + 999, #list)))
    if type(some) == 'table' then
      for i = 1, #some do answers[from + i - 1] = some[i] end
    end
  end
  return answers
end

-- The marks of IDs, each in the place of its ID: half of the token that set it (4
-- bytes), and the digest's tag (2).
local function marksOf(ids)
  local marks = {}
  for _, slice in ipairs(living) do
    local found = on(slice, 'HMGET', ids)
    for i = 1, #ids do marks[i] = marks[i] or found[i] end
  end
  return marks
end

-- The directory names a slice before it has marks: one that it did not name would not be
-- looked into.
local function mark(list) -- of IDs and marks
  local slice, known = format('%d', current), false
  for _, other in ipairs(living) do known = known or other == slice end
  if not known then
    living[#living + 1] = slice
    storeDirectory()
  end
  on(slice, 'HSET', list)
end
