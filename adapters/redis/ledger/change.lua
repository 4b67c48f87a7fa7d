-- What to do is one of renew, complete and release. Known of each ID: token (8).
-- Returns a digit for each: 1 when the token does not hold the lease, else 0.
open()
local records, where = find()
local what, till = ARGV[4], format('%.0f', deadline)
local slice = sliceOf(what == 'renew' and deadline or now)
local lost, new, last = {}, {}, 0
for i = 1, count do
  local id, token, record = ARGV[first + i - 1], sub(known, 8 * i - 7, 8 * i), records[i]
  lost[i] = 1
  if record and #record > 6 then
    if sub(record, 1, 8) == token then
      lost[i] = 0
      new[last + 1], new[last + 2], last = id, what == 'renew' and sub(record, 1, 10) .. till or sub(record, 5, 10), last + 2
    end
  elseif record and what == 'complete' and sub(record, 1, 4) == sub(token, 5) then
    lost[i], where[i] = 0, nil -- the retry of a call whose answer was lost
  end
end
if what ~= 'release' then store(slice, new) end
for i, other in pairs(where) do
  if lost[i] == 0 and (other ~= slice or what == 'release') then drop(other, ARGV[first + i - 1]) end
end
return table.concat(lost)
