-- Times as people write them: duration "250ms", "30s", "5m", "1h", "1d" is a number of milliseconds.
-- A number is milliseconds already; "0" and "never" are 0.
local factors = {ms = 1, s = 1000, m = 60000, h = 3600000, d = 86400000}

return function(value)
  if type(value) == "number" then return value end
  if value == "0" or value == "never" then return 0 end
  local count, unit = tostring(value):match "^(%d+)(%a+)$"
  if not factors[unit] then
    error(("%q is not a duration (250ms, 30s, 5m, 1h, 1d, never)"):format(tostring(value)), 2)
  end
  return tonumber(count) * factors[unit]
end
