-- Times as people write them: duration "250ms", "30s", "5m", "1h", "1d" is a number of milliseconds, at least 1.
-- With or_never also "never" and 0, which are 0. A number without a unit is refused: seconds to some, milliseconds to others.
local factors = {ms = 1, s = 1000, m = 60000, h = 3600000, d = 86400000}

return function(value, or_never)
  if or_never and (value == 0 or value == "0" or value == "never") then return 0 end
  local count, unit = tostring(value):match "^(%d+)(%a+)$"
  local ms = factors[unit] and math.tointeger(tonumber(count) * factors[unit])
  if not ms or ms == 0 then
    error(("%q is not a duration (250ms, 30s, 5m, 1h, 1d%s)"):format(tostring(value), or_never and ", never" or ""), 2)
  end
  return ms
end
