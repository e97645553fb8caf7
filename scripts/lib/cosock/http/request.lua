-- The half of an exchange that is about what was asked (ba-api C.7). exchange.lua puts the two together.
local form = require "cosock.http.form"
local multipart = require "cosock.http.multipart"
local path = require "cosock.http.path"

local BODY = 30000        -- ms for a piece of a body
local FORM = 60000        -- ms for a form
local FORM_MAX = 1 << 20  -- bytes of a form

local Request = {}

function Request:method() return self.head.method end
function Request:uri() return self.path end
function Request:version() return self.head.version end
function Request:peername() return self.conn.sock:peername() end
function Request:sockname() return self.conn.sock:sockname() end
function Request:certificate() return self.conn.sock:certificate() end
function Request:cipher() return self.conn.sock:cipher() end

-- The name, the password where it is known, and how he has shown who he is; false: nobody.
function Request:user()
  if not self.username then return false end
  return self.username, self.password, self.user_type
end

-- Whether he has shown a certificate. When the connection began, that is: he is not asked again.
function Request:clientcert() return self:certificate() ~= nil end

-- What is sent waits for no more (true), or may wait a moment to be sent with more.
function Request:setnodelay(on) return self.conn.sock:setoption("tcp-nodelay", on == true) end

-- The value of a field, or all: a table by lower-case name.
function Request:header(name)
  if name == nil then return self.head.header end
  return self.head.header[name:lower()]
end

function Request:issecure()
  local conn = self.conn
  if conn.secure == nil then conn.secure = conn.sock:cipher() ~= nil end
  return conn.secure
end

-- The host that the client named, with its port.
local function authority(self)
  local host = self.head.target:match "^%a+://([^/?]*)" or self.head.header.host
  if host then return (host:gsub("[^%w.:%-%[%]]", "")) end
  local ip, port, v6 = self.conn.sock:sockname()
  return ("%s:%d"):format(v6 and "[" .. ip .. "]" or ip, port)
end

-- The host, in lower case.
function Request:domain()
  return (authority(self):lower():gsub(":%d*$", ""))
end

-- Without the query.
function Request:url()
  return (self:issecure() and "https://" or "http://") .. authority(self) .. path.encode(self.path)
end

-- ---- what a page takes ----

-- Ends the page with 405 unless the method is one of the list. plain: OPTIONS (answered here) and HEAD are not among them by themselves.
function Request:allow(methods, plain)
  local known = {}
  for _, name in ipairs(methods) do known[name] = true end
  if plain ~= false then
    methods = {table.unpack(methods)}
    for _, name in ipairs {"HEAD", "OPTIONS"} do
      if not known[name] then methods[#methods + 1], known[name] = name, true end
    end
  end
  local method = self.head.method
  if known[method] and method ~= "OPTIONS" then return true end
  self:setheader("Allow", table.concat(methods, ", "))
  if method == "OPTIONS" and known.OPTIONS then
    self:answer(204, nil, "")
  else
    self:senderror(405)
  end
  self:abort()
end

-- Ends the page with 304 when the client has what is as new as that time.
function Request:checktime(time)
  local since = self.head.header["if-modified-since"]
  local known = since and ba.parsedate(since)
  self:setdateheader("Last-Modified", time)
  if not known or time > known then return true end
  self:answer(304, nil, "")
  self:abort()
end

-- ---- bodies ----

-- The client may wait to be told that its body is wanted.
local function go_on(self)
  if self.head.expect and self.head.body ~= "none" and not self.told then
    self.told = true
    if not self.sent then self.conn:write "HTTP/1.1 100 Continue\r\n\r\n" end
  end
end

-- The next piece of the body; nil at its end; nil, err.
function Request:piece(size, ms)
  if self.body_over then return nil end
  go_on(self)
  local data, err = self.conn.reader:body(size, ms)
  if not data then
    self.body_over = true
    if err then self.broken, self.keep = err, false end
  end
  return data, err
end

-- An iterator over the pieces of the body as they come.
function Request:rawrdr(size)
  return function() return self:piece(size, BODY) end
end

-- The whole body, at most max bytes; nil and the status to answer.
function Request:whole(max, ms)
  if (self.head.length or 0) > max then return nil, 413 end
  local parts, size, limit = {}, 0, ba.clock() + ms
  while true do
    local data, err = self:piece(nil, math.max(limit - ba.clock(), 0))
    if err then return nil, err == "timeout" and 408 or 400 end
    if not data then return table.concat(parts) end
    parts[#parts + 1], size = data, size + #data
    if size > max then return nil, 413 end
  end
end

-- A form with files (multipart/form-data), part by part as it comes: see multipart.lua for the functions and errors. size: bytes
-- that a field may have, 8 KiB if not given. keep: false: the connection is closed after the answer.
function Request:multipart(functions, size, keep)
  if type(size) == "boolean" then size, keep = nil, size end
  if keep == false then self.keep = false end
  return multipart.read(function() return self:piece(nil, BODY) end, self.head.header["content-type"], functions, size)
end

-- ---- forms ----

local function fields(self)
  local list = self.fields
  if list then return list end
  list = form.parse({}, self.query or "")
  local type = self.head.header["content-type"]
  if self.head.body ~= "none" and type and type:lower():find("application/x-www-form-urlencoded", 1, true) then
    local text, status = self:whole(FORM_MAX, FORM)
    if not text then
      self:senderror(status)
      self:abort()
    end
    form.parse(list, text)
  end
  self.fields = list
  return list
end

local function first(list, name)
  for _, field in ipairs(list) do
    if field[1] == name then return field[2] end
  end
  return nil
end

-- The values of the names; without one a table of all, where a name that came several times has a list.
function Request:data(...)
  local list = fields(self)
  local n = select("#", ...)
  if n == 1 then return first(list, (...)) end
  if n > 1 then
    local values = {}
    for i = 1, n do values[i] = first(list, (select(i, ...))) end
    return table.unpack(values, 1, n)
  end
  local all = {}
  for _, field in ipairs(list) do
    local name, value = field[1], field[2]
    local before = all[name]
    if type(before) == "table" then
      before[#before + 1] = value
    else
      all[name] = before == nil and value or {before, value}
    end
  end
  return all
end

-- For each name and value, in order.
function Request:datapairs()
  local list, i = fields(self), 0
  return function()
    i = i + 1
    if list[i] then return list[i][1], list[i][2] end
  end
end

return Request
