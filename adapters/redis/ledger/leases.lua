-- What a command answers for the hash of leases, of fields, or fields and values. One
-- call for many of them: a call costs more than a field.
local function onLeases(command, list)
  local answers = {}
  for from = 1, #list, 1000 do
    local some = redis.call(command, prefix .. 'leases', unpack(list, from, math.min(from + 999, #list)))
    if type(some) == 'table' then
      for _, answer in ipairs(some) do answers[#answers + 1] = answer end
    end
  end
  return answers
end

