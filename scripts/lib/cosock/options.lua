-- Reads tables of options: what a configuration misspells, or gives in a wrong type, is an error that names the key.
local duration = require "cosock.duration"

local options = {}

local function message(what, text)
  return what and what .. ": " .. text or text
end

-- Raises unless `given` is a table whose keys are all among `names` ("cert key alpn"). what: of what it is, or nil.
function options.check(what, given, names)
  if type(given) ~= "table" then
    error(message(what, ("expected a table { ... }, got a %s"):format(type(given))), 0)
  end
  for key in pairs(given) do
    if not (" " .. names .. " "):find(" " .. tostring(key) .. " ", 1, true) then
      error(message(what, ("unknown key %q (known: %s)"):format(tostring(key), names:gsub(" ", ", "))), 0)
    end
  end
end

-- The same for the block of a service.
function options.check_service(given, names)
  options.check(nil, given, names .. " script maxconn limit_conn")
end

-- What stands alone is a list of one. Raises when something in a list has a name.
function options.list(what, given)
  if type(given) ~= "table" then return {given} end
  for key in pairs(given) do
    if math.type(key) ~= "integer" then
      error(("%s: expected a list { A, B, ... }, got the key %q"):format(what, tostring(key)), 0)
    end
  end
  return given
end

-- given[name], or the default, in milliseconds; or_never: "never" and 0 are 0.
function options.duration(given, name, default, or_never)
  local ok, ms = pcall(duration, given[name] or default, or_never)
  if not ok then error(("%s: %s"):format(name, ms), 0) end
  return ms
end

-- given[name], or the default: a whole number from `least` on. what: of what it is, or nil.
function options.integer(given, name, default, least, what)
  local value = given[name] == nil and default or given[name]
  if math.type(value) ~= "integer" or value < least then
    error(message(what, ("%s: expected a whole number from %d on, got %q"):format(name, least, tostring(value))), 0)
  end
  return value
end

return options
