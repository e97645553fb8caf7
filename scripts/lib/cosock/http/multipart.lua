-- Forms with files (RFC 7578, RFC 2046 5.1), read part by part as they come: what is kept of a file is what has just arrived.
local multipart = {}

local FIELD = 8192   -- bytes of a field that is no file, unless said otherwise
local HEAD = 8192    -- bytes of the fields in front of a part
local PARTS = 1000

local Failure = {} -- the metatable of what ends the reading: {text = what is wrong}, or {} when a function wants no more

local function fail(text) error(setmetatable({text = text}, Failure), 0) end

-- What is between two parts, from the type of the request; or nil.
local function boundary_of(type)
  local rest = (type or ""):match "^[mM][uU][lL][tT][iI][pP][aA][rR][tT]/[fF][oO][rR][mM]%-[dD][aA][tT][aA]%s*;(.*)$"
  local boundary = rest and (rest:match '[bB][oO][uU][nN][dD][aA][rR][yY]="([^"]+)"' or rest:match '[bB][oO][uU][nN][dD][aA][rR][yY]=([^%s;"]+)')
  return boundary and #boundary <= 70 and boundary or nil
end

-- A value of Content-Disposition: name="value", where \" is a quote; browsers write backslashes as they are.
local function parameter(text, name)
  local _, at = text:find("[;%s]" .. name .. "=")
  if not at then return nil end
  if text:sub(at + 1, at + 1) ~= '"' then return text:match("^[^%s;]*", at + 1) end
  local from, parts = at + 2, {}
  while true do
    local quote = text:find('"', from, true)
    if not quote then return nil end
    local escaped = text:sub(quote - 1, quote - 1) == "\\"
    parts[#parts + 1] = text:sub(from, quote - (escaped and 2 or 1))
    if not escaped then return table.concat(parts) end
    parts[#parts + 1], from = '"', quote + 1
  end
end

local function header_of(text)
  local header = {}
  for line in text:gmatch "[^\r\n]+" do
    local name, value = line:match "^([%w%-]+):[ \t]*(.*)$"
    if name then header[name:lower()] = value end
  end
  return header
end

local Parser = {}
Parser.__index = Parser

-- Joins the next piece to what is there. false: nothing comes any more; raises an error of the connection.
local function more(self)
  local data, err = self.next()
  if err then fail(err) end
  if not data then return false end
  self.data = self.data .. data
  return true
end

local function need(self, n)
  while #self.data < n do
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
    local from, to = self.data:find(boundary, 1, true)
    local keep = #boundary - 1
    local ready = from and from - 1 or #self.data - keep
    if ready > 0 then
      local data = self.data:sub(1, ready)
      self.data = self.data:sub((to or ready) + 1)
      take(data)
    elseif from then
      self.data = self.data:sub(to + 1)
    end
    if from then return end
    need(self, #self.data + 1)
  end
end

-- The fields in front of a part; nil behind the last one.
local function part_head(self)
  need(self, 2)
  if self.data:sub(1, 2) == "--" then return nil end
  while true do
    local _, to = self.data:find "^[ \t]*\r\n"
    local stop = to and self.data:find("\r\n\r\n", to - 1, true)
    if (stop or #self.data) > HEAD then fail("too long a head of a part") end
    if stop then
      local header = header_of(self.data:sub(to + 1, stop + 1))
      self.data = self.data:sub(stop + 4)
      return header
    end
    need(self, #self.data + 1)
  end
end

local function field(self, name)
  local parts, size = {}, 0
  until_boundary(self, function(data)
    size = size + #data
    if size > self.size then fail("too long a field") end
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
    local name = disposition and parameter(disposition, "name")
    if not name then fail("a part without a name") end
    local filename = parameter(disposition, "filename")
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
-- encoding), filedata(data), endmp(), error(text). size: bytes that a field may have. true; nil and what is wrong.
function multipart.read(next, type, functions, size)
  local boundary = boundary_of(type)
  local ok, err = false, {text = "not multipart/form-data"}
  local function caught(e)
    if getmetatable(e) == Failure then return e end
    return {again = _G.type(e) == "string" and debug.traceback(e, 2) or e} -- of one of the functions
  end
  if boundary then
    local self = setmetatable({next = next, boundary = "\r\n--" .. boundary, data = "\r\n", functions = functions, size = size or FIELD}, Parser)
    ok, err = xpcall(parse, caught, self)
  end
  if ok then return true end
  if err.again then error(err.again, 0) end
  if not err.text then return nil, "stopped" end
  if functions.error then functions.error(err.text) end
  return nil, err.text
end

return multipart
