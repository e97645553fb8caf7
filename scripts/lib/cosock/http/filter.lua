-- response:setresponse (the documents' "response object"): what a page writes goes through a function of the application's, or is
-- compressed, before it is sent.
local Response = require "cosock.http.response"

local filter = {}

local Filter = {}
Filter.__index = Filter

-- Takes text of the page instead of the connection.
function Filter:collect(data)
  if data == "" then return true end
  if self.f then
    self.f(data)
  else
    self.parts[#self.parts + 1] = data
  end
  return true
end

-- `Vary` with that field (RFC 9110 12.5.5). before: what it is, text or a list.
local function vary(before, name)
  local text = type(before) == "table" and table.concat(before, ", ") or before or ""
  for known in text:lower():gmatch "[^%s,]+" do
    if known == "*" or known == name:lower() then return text end
  end
  return text == "" and name or text .. ", " .. name
end

-- The whole compressed, with the fields that say so. A part of something, or what is so already, stays as it is.
local function encoded(self, x)
  local fields = x.fields_out
  if not self.parts[1] or fields["Content-Encoding"] or x:containsheader "Content-Range" or x.status == 206 then
    return table.concat(self.parts)
  end
  fields["Content-Encoding"], fields["Content-Length"], fields["Accept-Ranges"] = "deflate", nil, nil
  fields.Vary = vary(fields.Vary, "Accept-Encoding")
  for name, value in pairs(fields) do -- other bytes, the same content (RFC 9110 8.8.3)
    if name:lower() == "etag" and tostring(value):find '^"' then fields[name] = "W/" .. value end
  end
  return ba.deflate(self.parts, self.zlib)
end

-- Compressed: with send, that is the answer, and nothing can be written after it; else it is returned. A function: it gets the rest.
-- nil the second time.
function Filter:finalize(send)
  local x = self.x
  if x.filter ~= self then return nil end
  self:collect(x:take())
  x.filter = nil
  if self.f then return true end
  if not send then return ba.deflate(self.parts, self.zlib) end
  local data = encoded(self, x)
  x.buffer, x.size, x.over = {data}, #data, true
  return true
end

-- What is written goes out as it is from now on; what was collected is dropped. false: the head has gone already.
function Filter:abort()
  local x = self.x
  if x.filter == self then
    x:take()
    x.filter = nil
  end
  return not x.sent
end

-- Out of the scope of a page: as finalize(true), unless an error ends it.
function Filter:__close(err)
  if err == nil or err == Response.ABORT then
    self:finalize(true)
  else
    self:abort()
  end
end

-- The page has ended without a word: the function is told so with nil.
function Filter:finish()
  self:finalize(true)
  if self.f then self.f(nil) end
end

local Exchange = {}

-- how: a function; true: compressed with zlib's head and tail (RFC 1950); false or nil: without (RFC 1951). nil, "iscommitted":
-- the head has gone, or there is a filter.
function Exchange:setresponse(how)
  if how ~= nil and type(how) ~= "boolean" and type(how) ~= "function" then
    error("setresponse: a function or a boolean expected, got " .. type(how), 2)
  end
  if self.sent or self.over or self.filter then return nil, "iscommitted" end
  self.filter = setmetatable({x = self, f = type(how) == "function" and how, zlib = how == true, parts = {}}, Filter)
  return self.filter
end

filter.Exchange = Exchange

return filter
