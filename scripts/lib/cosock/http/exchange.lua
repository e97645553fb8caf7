-- One request and its answer: the object that a page knows as `request` and as `response`. It is of no use once the
-- answer is complete: using it then raises.
local html = require "cosock.http.html"
local path = require "cosock.http.path"
local Request = require "cosock.http.request"
local Response = require "cosock.http.response"

local exchange = {}

local DROP = 262144      -- bytes of a body nobody has read that are read after the answer
local DROP_TIME = 10000  -- ms

local kinds = setmetatable({}, {__mode = "k"}) -- the metatables of requests

-- A kind of requests, for exchange.run: what they have besides the methods of request.lua and response.lua, in tables.
function exchange.kind(...)
  local index = {status = 200, size = 0, gone = 0}
  for _, part in ipairs {Request, Response, ...} do
    for name, value in pairs(part) do index[name] = value end
  end
  local kind = {__index = index, __name = "request", __tostring = index.url}
  kinds[kind] = true
  return kind
end

local ended = {
  __name = "request (ended)",
  __index = function(_, name) error(("request.%s: the request has ended"):format(tostring(name)), 2) end,
}

-- Whether the value is the request of a page that runs.
function exchange.is(value)
  return kinds[getmetatable(value)] == true
end

local function traceback(err)
  if err == Response.ABORT then return err end
  return debug.traceback(tostring(err), 2)
end

-- After an error of the code that was to answer.
local function report(self, text)
  local ip, port = self.conn.sock:peername()
  tracep(false, "error", ("page failed: %s %s peer=%s:%s\n%s"):format(self.head.method, self.path, ip, port, text))
  if self.later then
    self.later.failed = true
  elseif self.sent or self.conn.taken then
    self.keep = false
    self.lost = true
  else
    self.over, self.filter = false, nil
    self:reset()
    self:senderror(500)
    if self.show_errors then
      self.buffer[2] = "<pre>" .. html.escape(text) .. "</pre>\n"
      self.size = self.size + #self.buffer[2]
    end
  end
end

-- What is left of a body would be taken for the next request.
local function drop_body(self)
  local left, limit = DROP, ba.clock() + DROP_TIME
  if self.head.expect and not self.told then return false end
  repeat
    local data, err = self.conn.reader:body(nil, math.max(limit - ba.clock(), 0))
    if not data then return not err end
    left = left - #data
  until left <= 0
  return false
end

local function end_exchange(self)
  if self.conn.taken and not self.later then return false end
  if self.broken and not self.sent and self.status < 400 then -- whatever the page has made of what has come
    self.over = false
    self:reset()
    self:senderror(self.broken == "timeout" and 408 or 400)
  end
  local keep = self.keep
  if not self.later then keep = self:finish() end
  keep = keep and not self.broken and not self.conn.server.closing
  if keep and self.head.body ~= "none" and not self.body_over then keep = drop_body(self) end
  return keep
end

local function attempt(self, f, x)
  local ok, err = xpcall(f, traceback, x)
  if not ok and err ~= Response.ABORT then report(self, err) end
end

-- Answers the request with that head of the connection: f(exchange). Whether another may follow.
function exchange.run(conn, head, kind, f)
  local raw, query = path.split(head.target)
  local clean = path.clean(raw)
  local self = setmetatable({conn = conn, head = head, query = query, path = clean or "/", fields_out = Response.no_fields(), buffer = {},
                             keep = head.keepalive and not conn.server.closing, sent = false, over = false}, kind)
  if clean or head.target == "*" then
    attempt(self, f, self)
  else
    self:senderror(head.method == "CONNECT" and 501 or 400)
  end
  if self.filter then attempt(self, self.filter.finish, self.filter) end
  local ok, keep = xpcall(end_exchange, traceback, self)
  if not ok and keep ~= Response.ABORT then report(self, keep) end
  keep = ok and keep
  local later = self.later
  setmetatable(self, ended)
  self.conn, self.head, self.page_env, self.later = nil, nil, nil, nil
  if not later then return keep end
  later:half_over(keep)
  return false
end

return exchange
