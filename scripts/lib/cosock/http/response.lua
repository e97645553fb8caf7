-- The half of an exchange that is about the answer (ba-api C.7). What is written is collected; an answer that fits into
-- BUFFER goes out whole with its length, a longer one in chunks.
local html = require "cosock.http.html"
local path = require "cosock.http.path"
local urls = require "cosock.url"

local BUFFER = 16384
local NAMES = {} -- how the fields are written that we know ourselves
for name in ("Content-Type Content-Length Content-Encoding Transfer-Encoding Connection Date Server Location Set-Cookie Cache-Control Vary"):gmatch "%S+" do
  NAMES[name:lower()] = name
end

local ABORT = {} -- raised to end a page

local Response = {ABORT = ABORT}

local date, date_at
local function now()
  local t = os.time()
  if t ~= date_at then date, date_at = ba.encdate(t), t end
  return date
end
Response.date = now

-- With room for those that most answers have.
function Response.no_fields()
  return {Date = nil, Server = nil, Connection = nil, ETag = nil, ["Content-Type"] = nil, ["Content-Length"] = nil,
          ["Last-Modified"] = nil, ["Accept-Ranges"] = nil}
end

local function check_open(self)
  if self.sent or self.over then return nil, "iscommitted" end
  return true
end

-- ---- the head ----

-- A field keeps the spelling that was used first.
local function spelled(self, name)
  local lower = name:lower()
  self.spelling = self.spelling or {}
  self.spelling[lower] = self.spelling[lower] or name
  return self.spelling[lower]
end

-- What is wrong with a field of an answer; or nil.
function Response.wrong_field(name, value)
  if type(name) ~= "string" then return "a name expected, got " .. type(name) end
  local _, what, why = ba.http.response(200, {[name] = value})
  if what then return why end
  if name:lower() == "content-length" and not tostring(value):find "^%d+$" then return "Content-Length: a number of bytes expected" end
  return nil
end

-- value nil takes the field out. append: the field may be there several times.
function Response:setheader(name, value, append)
  local ok, err = check_open(self)
  if not ok then return nil, err end
  local why = value ~= nil and Response.wrong_field(name, value)
  if why then error("setheader: " .. why, 2) end
  local known = NAMES[name:lower()] or spelled(self, name)
  local before = self.fields_out[known]
  if append and before ~= nil and value ~= nil then
    local list = type(before) == "table" and {table.unpack(before)} or {before} -- it may be a directory's, for all of its answers
    for _, one in ipairs(type(value) == "table" and value or {value}) do list[#list + 1] = one end
    value = list
  end
  self.fields_out[known] = value
  return true
end

function Response:setdateheader(name, time) return self:setheader(name, ba.encdate(time)) end
function Response:setmaxage(seconds) return self:setheader("Cache-Control", ("max-age=%d"):format(seconds)) end
function Response:setcontenttype(type) return self:setheader("Content-Type", type) end
function Response:setcontentlength(n) return self:setheader("Content-Length", ("%d"):format(n)) end

function Response:setstatus(status, reason)
  local ok, err = check_open(self)
  if not ok then return nil, err end
  local _, what, why = ba.http.response(status, {}, reason)
  if what then error("setstatus: " .. why, 2) end
  self.status, self.reason = status, reason
  return true
end

function Response:getstatus() return self.status end
function Response:clearkeepalive() self.keep = false end

-- Whether a field of that name has been set.
function Response:containsheader(name)
  local lower = name:lower()
  return self.fields_out[NAMES[lower] or (self.spelling and self.spelling[lower]) or name] ~= nil
end

function Response:setdefaultheaders()
  self:setcontenttype "text/html; charset=utf-8"
  return self:setheader("Cache-Control", "No-Cache")
end

function Response:committed() return self.sent ~= false end
function Response:initial() return not self.sent and self.size == 0 end
function Response:valid() return not self.lost end

-- Without chunks, and the connection ends with it, as in HTTP/1.0.
function Response:downgrade() self.old, self.keep = true, false end

-- Takes back what was written and set and not sent: "buffer", "headers", or both.
function Response:reset(what)
  local ok, err = check_open(self)
  if not ok then return nil, err end
  if what ~= "headers" then
    self.buffer, self.size = {}, 0
    if self.filter then self.filter.parts = {} end
  end
  if what ~= "buffer" then self.fields_out, self.spelling, self.status, self.reason = Response.no_fields(), nil, 200, nil end
  return true
end

local function bodiless(self)
  local status = self.status
  return status == 204 or status == 304 or status < 200
end

-- The head as text. length: of the whole body, when it is known.
local function head_text(self, length)
  local fields = self.fields_out
  local own = math.tointeger(fields["Content-Length"])
  self.length = own and own >= 0 and own or length
  if fields.Connection and tostring(fields.Connection):lower():find("close", 1, true) then self.keep = false end
  fields["Transfer-Encoding"], fields["Content-Length"] = nil, own and self.length
  if bodiless(self) then
    self.sent = "none"
    if self.status ~= 304 then fields["Content-Length"] = nil end
  elseif self.length then
    self.sent = "length"
    fields["Content-Length"] = self.length
  elseif self.head.version ~= "1.0" and not self.old then
    self.sent = "chunked"
    fields["Transfer-Encoding"] = "chunked"
  else
    self.sent, self.keep = "close", false
  end
  if self.status >= 400 and self.head.expect and not self.told then self.keep = false end
  if self.sent == "length" and length and length ~= self.length and self.head.method ~= "HEAD" then
    self.keep = false -- what is announced and missing would be read from the next answer
  end
  if not self.keep then
    fields.Connection = "close"
  elseif self.head.version == "1.0" then
    fields.Connection = "keep-alive"
  end
  fields.Date = now()
  fields.Server = fields.Server or "cosockd"
  if self.sent ~= "none" and fields["Content-Type"] == nil and self.length ~= 0 then
    fields["Content-Type"] = "text/html; charset=utf-8"
  end
  local text, _, why = ba.http.response(self.status, fields, self.reason)
  return text or error(why, 0)
end

-- ---- the body ----

local function out(self, text)
  if self.lost then self:abort() end
  if text == "" then return true end
  local ok, err = self.conn:write(text)
  if not ok then
    self.lost, self.keep = true, false
    return nil, err
  end
  return true
end

-- The body's part as it goes over the wire.
local function framed(self, data)
  if data == "" or self.sent == "none" or self.head.method == "HEAD" then return "" end
  if self.sent == "chunked" then return ("%x\r\n"):format(#data) .. data .. "\r\n" end
  if self.sent == "length" then
    self.length = self.length - #data
    if self.length < 0 then -- more than was announced would be read as the next answer
      data, self.length, self.keep = data:sub(1, #data + self.length), 0, false
    end
  end
  return data
end

-- What is collected, as one text; nothing is then.
function Response:take()
  local buffer = self.buffer
  local data = buffer[2] and table.concat(buffer) or buffer[1] or ""
  self.buffer, self.size = {}, 0
  self.gone = self.gone + #data
  return data
end

-- Sends what is collected; with it the head, if it has not gone. true; nil, err: the connection is lost, and
-- the next write ends the page.
function Response:flush()
  if self.over then return nil, "iscommitted" end
  local data = self:take()
  if self.filter then return self.filter:collect(data) end
  if self.sent then return out(self, framed(self, data)) end
  local head = head_text(self, nil)
  return out(self, head .. framed(self, data))
end

-- Bytes that are collected and have not gone.
function Response:writesize() return self.size end

-- Bytes of the body, those that are collected included.
function Response:bytecount() return self.gone + self.size end

-- What is collected; nil once the head has gone.
function Response:getdata()
  if self.sent then return nil end
  return table.concat(self.buffer)
end

-- For a body whose length has been set: past what is collected.
function Response:send(data)
  local ok, err = self:write(data)
  if not ok then return nil, err end
  return self:flush()
end

-- Everything as text, numbers without a fuss. true; nil, err as flush.
function Response:write(...)
  if self.over then return nil, "iscommitted" end
  local buffer, size = self.buffer, self.size
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if type(value) ~= "string" then value = tostring(value) end
    buffer[#buffer + 1], size = value, size + #value
  end
  self.size = size
  if size >= BUFFER then return self:flush() end
  return true
end

function Response:print(...)
  local texts = table.pack(...)
  for i = 1, texts.n do texts[i] = tostring(texts[i]) end
  return self:write(table.concat(texts, "\t") .. "\n")
end

-- Ends the page, quietly.
function Response:abort() error(ABORT, 0) end

-- A path fit for a URL, without its "." and "..". What is behind a "?" is left as it is.
function Response:encodeurl(text)
  local place, query = text:match "^([^?]*)(.*)$"
  return path.encode(path.without_dots(place)) .. query
end

-- ---- whole answers ----

-- A body of its own instead of what was written. Nothing can be written after it.
function Response:answer(status, type, body)
  local ok, err = check_open(self)
  if not ok then return nil, err end
  local fields = self.fields_out
  self.status, self.reason = status, nil
  fields["Content-Length"], fields["Content-Type"] = nil, type
  self.buffer, self.size = {body}, #body
  self.over = true
  return true
end

function Response:senderror(code, message)
  local reason = ba.http.reason(code)
  local title = html.escape(("%d %s"):format(code, reason))
  local text = message and "<p>" .. html.escape(tostring(message)) .. "</p>" or ""
  return self:answer(code, "text/html; charset=utf-8",
                     ("<!DOCTYPE html>\n<html><title>%s</title><h1>%s</h1>%s</html>\n"):format(title, title, text))
end

-- Ends the page unless `stay` is true. status: a number, or true for 301.
function Response:sendredirect(url, status, stay)
  local ok, err = self:setheader("Location", url)
  if not ok then return nil, err end
  self:answer(status == true and 301 or status or 302, "text/plain", "")
  if stay then return true end
  self:abort()
end

-- The absolute address that a relative one means here; with_data: the values of the query and of a form behind it. A session's id never
-- goes into an address.
function Response:encoderedirecturl(to, with_data)
  return urls.with_query(urls.resolve(self:url(), to), with_data and self:data() or nil)
end

-- Over TLS: false. Else the same address with TLS is where the client is to go (307, which nobody keeps: the host is what the client
-- said), and the page ends unless `stay` is true.
function Response:redirect2tls(stay)
  if self:issecure() then return false end
  local port = self.tls_port and self.tls_port ~= 443 and ":" .. self.tls_port or ""
  local url = "https://" .. self:domain() .. port .. self:url():match "^http://[^/]*(.*)$"
  return self:sendredirect(url .. (self.query and "?" .. self.query or ""), 307, stay)
end

-- Tables as JSON. Behind them may stand true: the page goes on. It ends otherwise.
function Response:json(...)
  local n = select("#", ...)
  while n > 0 and type((select(n, ...))) ~= "table" do n = n - 1 end
  local stay = select(n + 1, ...)
  local text, err = ba.json.encode(table.unpack({...}, 1, n))
  if not text then return nil, err end
  local ok
  ok, err = self:answer(200, "application/json", text)
  if not ok then return nil, err end
  if stay == true then return true end
  self:abort()
end

-- ---- the end ----

-- Sends what is left. Whether the connection may go on.
function Response:finish()
  local data = self:take()
  if not self.sent then
    self.over = true
    local head = head_text(self, #data)
    out(self, head .. framed(self, data))
    return self.keep
  end
  local rest = framed(self, data)
  if self.sent == "chunked" and self.head.method ~= "HEAD" then rest = rest .. "0\r\n\r\n" end
  if not self.lost then out(self, rest) end
  if self.sent == "length" and self.length > 0 and self.head.method ~= "HEAD" then self.keep = false end
  return self.keep
end

return Response
