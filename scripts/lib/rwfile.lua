-- rwfile: a whole file, or a JSON file, in one call (ba-api C.4).
--
--   rwfile.file(io, name)         its bytes; nil, err           rwfile.file(io, name, data)   true; nil, err
--   rwfile.json(io, name)         its value; nil, err           rwfile.json(io, name, value)  true; nil, err
--
-- io is an io object (ba.openio). An empty file is "". Errors are those of the io object, and "jsonerr" for a file
-- that is no JSON. A write goes to a file of its own first (NAME.*.tmp): who reads or writes meanwhile, or reads after
-- a crash, finds the old file or the new one, never half of it.
local rwfile = {}

local function read(io, name)
  local file, err = io:open(name)
  if not file then return nil, err end
  local data
  data, err = file:read "a"
  file:close()
  if not data and err then return nil, err end
  return data or ""
end

local function write(io, name, data)
  local new = ("%s.%s.tmp"):format(name, ba.b64urlencode(ba.rndbs(12)))
  local file, err = io:open(new, "w")
  if not file then return nil, err end
  local ok, closed, why
  ok, err = file:write(data)
  closed, why = file:close()
  if ok and not closed then ok, err = nil, why end
  if ok then ok, err = io:rename(new, name) end
  if ok then return true end
  io:remove(new)
  return nil, err
end

function rwfile.file(io, name, data)
  if data ~= nil then return write(io, name, data) end
  return read(io, name)
end

function rwfile.json(io, name, value)
  if value ~= nil then
    local text, err = ba.json.encode(value)
    if not text then return nil, err end
    return write(io, name, text)
  end
  local text, err = read(io, name)
  if not text then return nil, err end
  value, err = ba.json.decode((text:gsub("^\xEF\xBB\xBF", ""))) -- a byte order mark is allowed
  if value == nil then return nil, "jsonerr", err end
  return value
end

return rwfile
