-- Known of each ID: token (8) and digest tag (2).
-- Returns a digit for each: 1 fresh, 2 duplicate, 3 in flight, 4 conflict.
local function sameContent(tag, other) return tag == other or tag == '\0\0' or other == '\0\0' end

open()
local records, where = find()
local slice, till = sliceOf(deadline), format('%.0f', deadline)
local verdicts, taken, new, last = {}, {}, {}, 0
for i = 1, count do
  local id, claim = ARGV[first + i - 1], sub(known, 10 * i - 9, 10 * i)
  local record, verdict = taken[id] or records[i], 1
  if not record then -- most often
  elseif #record == 6 then
    verdict = sameContent(sub(record, 5), sub(claim, 9)) and 2 or 4
  elseif taken[id] or sub(record, 1, 8) ~= sub(claim, 1, 8) and tonumber(sub(record, 11)) > now then
    verdict = sameContent(sub(record, 9, 10), sub(claim, 9)) and 3 or 4
  end
  if verdict == 1 then
    taken[id] = claim .. till
    new[last + 1], new[last + 2], last = id, taken[id], last + 2
  end
  verdicts[i] = verdict
end
store(slice, new)
for i, other in pairs(where) do -- a lease that was taken over, or claimed again
  if verdicts[i] == 1 and other ~= slice then drop(other, ARGV[first + i - 1]) end
end
return table.concat(verdicts)
