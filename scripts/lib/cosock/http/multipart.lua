-- Forms with files (RFC 7578, RFC 2046 5.1), read part by part as they come: what is kept of a file is what has just arrived.
local multipart = {}

local FIELD = 8192   -- bytes of a field that is no file, unless said otherwise
local FIELDS = 64    -- all fields with their names: so many times that, or 1 MiB if that is more
local HEAD = 8192    -- bytes of the fields in front of a part
local PARTS = 1000

local Failure = {} -- the metatable of what ends the reading: {text = what is wrong}, or {} when a function wants no more

local function fail(text) error(setmetatable({text = text}, Failure), 0) end

-- The text from there to the closing quote, and where it goes on; or nil. \" is a quote; browsers write backslashes as they are.
local function quoted(text, from)
  local parts = {}
  while true do
    local quote = text:find('"', from, true)
    if not quote then return nil end
    local escaped = text:sub(quote - 1, quote - 1) == "\\"
    parts[#parts + 1] = text:sub(from, quote - (escaped and 2 or 1))
    if not escaped then return table.concat(parts), quote + 1 end
    parts[#parts + 1], from = '"', quote + 1
  end
end

-- The parameters behind a value, ; name=value ; name="value": by name in lower case, the first of each. Nothing is looked for
-- inside of quotes.
local function parameters(text)
  local found, at = {}, text:find(";", 1, true)
  while at do
    at = text:match("^[;%s]*()", at)
    local name, from = text:match("^([^;%s=]+)%s*=%s*()", at)
    if name then
      local value
      if text:sub(from, from) == '"' then
        value, at = quoted(text, from + 1)
        if not value then break end
      else
        value, at = text:match("^([^%s;]*)()", from)
      end
      name = name:lower()
      found[name] = found[name] or value
    end
    at = text:find(";", at, true)
  end
  return found
end

-- What is between two parts, from the type of the request; or nil.
local function boundary_of(type)
  if (type or ""):match("^[^;%s]*"):lower() ~= "multipart/form-data" then return nil end
  local boundary = parameters(type).boundary
  return boundary and boundary ~= "" and #boundary <= 70 and boundary or nil
end

local function header_of(text)
  local header = {}
  for line in text:gmatch "[^\r\n]+" do
    local name, value = line:match "^([%w%-]+):[ \t]*(.*)$"
    if name then header[name:lower()] = value end
  end
  return header
end

local Parser = {} -- data: what has come and is not taken, from the byte `at` on
Parser.__index = Parser

-- Joins the next piece to what is there. false: nothing comes any more; raises an error of the connection.
local function more(self)
  local data, err = self.next()
  if err then fail(err) end
  if not data then return false end
  self.data, self.at = self.data:sub(self.at) .. data, 1
  return true
end

local function need(self, n)
  while #self.data - self.at + 1 < n do
    if not more(self) then fail("the form ends too early") end
  end
end

local function call(self, name, ...)
  local f = self.functions[name]
  if f and f(...) == false then fail(nil) end
end

-- Hands what stands in front of the next boundary to take(data), piece by piece, and goes behind it.
local function until_boundary(self, take)
  local boundary = self.boundary
  while true do
    local at = self.at
    local from, to = self.data:find(boundary, at, true)
    local stop = from or math.max(#self.data - #boundary + 2, at)
    self.at = to and to + 1 or stop
    if stop > at then take(self.data:sub(at, stop - 1)) end
    if from then return end
    need(self, #self.data - self.at + 2)
  end
end

-- The fields in front of a part; nil behind the last one.
local function part_head(self)
  need(self, 2)
  if self.data:sub(self.at, self.at + 1) == "--" then return nil end
  while true do
    local _, to = self.data:find("^[ \t]*\r\n", self.at)
    local stop = to and self.data:find("\r\n\r\n", to - 1, true)
    if (stop or #self.data) - self.at + 1 > HEAD then fail("too long a head of a part") end
    if stop then
      local header = header_of(self.data:sub(to + 1, stop + 1))
      self.at = stop + 4
      return header
    end
    need(self, #self.data - self.at + 2)
  end
end

local function field(self, name)
  local parts, size = {}, 0
  self.all = self.all + #name
  until_boundary(self, function(data)
    size, self.all = size + #data, self.all + #data
    if size > self.size then fail("too long a field") end
    if self.all > math.max(FIELDS * self.size, 1 << 20) then fail("too long fields") end
    parts[#parts + 1] = data
  end)
  call(self, "formdata", name, table.concat(parts))
end

local function parse(self)
  until_boundary(self, function() end)
  for _ = 1, PARTS do
    local header = part_head(self)
    if not header then return call(self, "endmp") end
    local disposition = header["content-disposition"]
    local given = parameters(disposition or "")
    local name, filename = given.name, given.filename
    if not name then fail("a part without a name") end
    if filename then
      call(self, "beginfile", name, filename, header["content-type"], header["content-transfer-encoding"])
      until_boundary(self, function(data) call(self, "filedata", data) end)
    else
      field(self, name)
    end
  end
  fail("too many parts")
end

-- next: gives the pieces of the body, nil at its end, nil and an error. type: of the request. functions, of which each may be
-- absent, and each but error ends the reading by returning false: formdata(name, value), beginfile(name, filename, type,
-- encoding), filedata(data), endmp(), error(text). size: bytes that a field may have; all of them together have 64 times that, or
-- 1 MiB if that is more. true; nil and what is wrong.
function multipart.read(next, type, functions, size)
  local boundary = boundary_of(type)
  local ok, err = false, {text = "not multipart/form-data"}
  local function caught(e)
    if getmetatable(e) == Failure then return e end
    return {raised = true, again = _G.type(e) == "string" and debug.traceback(e, 2) or e} -- of one of the functions
  end
  if boundary then
    local self = setmetatable({next = next, boundary = "\r\n--" .. boundary, data = "\r\n", at = 1, all = 0, functions = functions, size = size or FIELD}, Parser)
    ok, err = xpcall(parse, caught, self)
  end
  if ok then return true end
  if err.raised then error(err.again, 0) end
  if not err.text then return nil, "stopped" end
  if functions.error then functions.error(err.text) end
  return nil, err.text
end

return multipart
