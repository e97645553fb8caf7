-- One request and its answer: the object that a page knows as `request` and as `response`. It is of no use once the
-- answer is complete: using it then raises.
local path = require "cosock.http.path"
local Request = require "cosock.http.request"
local Response = require "cosock.http.response"

local exchange = {}

local DROP = 262144      -- bytes of a body nobody has read that are read after the answer
local DROP_TIME = 10000  -- ms

local Exchange = {}

-- Adds the methods of these tables to those of every request.
function exchange.extend(...)
  for _, methods in ipairs {...} do
    for name, method in pairs(methods) do Exchange[name] = method end
  end
end

exchange.extend(Request, Response)

local live = {__index = Exchange, __name = "request"}
local ended = {
  __name = "request (ended)",
  __index = function(_, name) error(("request.%s: the request has ended"):format(tostring(name)), 2) end,
}

-- Whether the value is the request of a page that runs.
function exchange.is(value)
  return getmetatable(value) == live
end

local function traceback(err)
  if err == Response.ABORT then return err end
  return debug.traceback(tostring(err), 2)
end

-- After an error of the code that was to answer.
local function fail(self, text)
  local ip, port = self.conn.sock:peername()
  tracep(false, "error", ("page failed: %s %s peer=%s:%s\n%s"):format(self.head.method, self.path, ip, port, text))
  if self.sent then
    self.keep = false
    self.lost = true
  else
    self.over = nil
    self:reset()
    self:senderror(500)
    if self.show_errors then
      local shown = text:gsub("[<>&]", {["<"] = "&lt;", [">"] = "&gt;", ["&"] = "&amp;"})
      self.buffer[2] = "<pre>" .. shown .. "</pre>\n"
      self.size = self.size + #self.buffer[2]
    end
  end
end

-- What is left of a body would be taken for the next request.
local function drop_body(self)
  local left, limit = DROP, ba.clock() + DROP_TIME
  if self.head.expect and not self.told then return false end
  while left > 0 and ba.clock() < limit do
    local data, err = self.conn.reader:body(nil, limit - ba.clock())
    if not data then return not err end
    left = left - #data
  end
  return false
end

local function end_exchange(self)
  if self.conn.taken then return false end
  local keep = self:finish() and not self.broken and not self.conn.server.closing
  if keep and self.head.body ~= "none" and not self.body_over then keep = drop_body(self) end
  return keep
end

-- Answers the request with that head of the connection: f(exchange). Whether another may follow.
function exchange.run(conn, head, f)
  local raw, query = path.split(head.target)
  local self = setmetatable({conn = conn, head = head, query = query, path = path.clean(raw) or "/", status = 200, fields_out = {},
                             buffer = {}, size = 0, keep = head.keepalive and not conn.server.closing}, live)
  local ok, err
  if head.target == "*" or path.clean(raw) then
    ok, err = xpcall(f, traceback, self)
  else
    ok = self:senderror(head.method == "CONNECT" and 501 or 400)
  end
  if not ok and err ~= Response.ABORT and not conn.taken then fail(self, err) end
  local keep
  ok, keep = pcall(end_exchange, self)
  setmetatable(self, ended)
  for key in pairs(self) do self[key] = nil end
  return ok and keep
end

return exchange
