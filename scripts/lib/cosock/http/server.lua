-- Connections that speak HTTP/1.1: who connects gets a job of his own, which waits for requests and hands each to a
-- handler. What costs a connection is bounded in time: heads, pauses, and writes to a peer that does not read.
local server = {}

local HEAD = 10000    -- ms for a head
local IDLE = 60000    -- ms between two requests
local WRITE = 60000   -- ms in which a peer must take a piece of what is written
local PIECE = 65536   -- bytes
local LOOK = 10000    -- ms between two looks for such peers
local LIMITS = {line = 8192, head = 65536, fields = 100}

local Server = {}
Server.__index = Server

-- handle(conn, head) answers one request; it returns true when the connection may go on. It may take the connection over:
-- conn.taken = true. options: head_timeout and idle_timeout, in ms.
function server.new(handle, options)
  local self = setmetatable({handle = handle, head_ms = options.head_timeout or HEAD, idle_ms = options.idle_timeout or IDLE,
                             conns = setmetatable({}, {__mode = "k"}), lent = {}}, Server)
  self.watch = ba.timer(function()
    local now, any = ba.clock(), false
    for conn in pairs(self.conns) do
      if conn.write_until and conn.write_until < now then conn.sock:close() end
      any = true
    end
    self.watching = any
    return any
  end)
  return self
end

local Conn = {}
Conn.__index = Conn

-- true, or nil and an error: the connection is of no more use then.
function Conn:write(data)
  local ok, err
  for from = 1, #data, PIECE do
    self.write_until = ba.clock() + WRITE
    ok, err = self.sock:write(data, from, from + PIECE - 1)
    if not ok then break end
  end
  self.write_until = nil
  return ok, err
end

-- However it ends.
function Conn:__close()
  if not self.server.lent[self] then self.server.conns[self] = nil end
  if not self.taken then self.sock:close() end
end

-- For an answer that is not finished when its request is: the connection is kept until give_back.
function Conn:lend()
  self.taken, self.server.lent[self] = true, true
end

-- keep: whether another request may follow.
function Conn:give_back(keep)
  self.server.conns[self], self.server.lent[self] = nil, nil
  if keep and not self.server.closing then
    self.server:accepted(self.sock, self.server.idle_ms)
  else
    self.sock:close()
  end
end

-- What answers a request that cannot be read.
local function refuse(conn, status, why)
  local text = why and why .. "\n" or ""
  conn:write(ba.http.response(status, {{"Date", ba.encdate(os.time())}, {"Content-Type", "text/plain"}, {"Content-Length", #text},
                                        {"Connection", "close"}}) .. text)
end

-- Waits for one request and has it answered. Whether another may follow.
local function one(self, conn, ms)
  conn.idle = conn.kept
  local begun = conn.reader:wait(ms)
  conn.idle = false
  if not begun then return false end
  local head, err, status, why = conn.reader:head(self.head_ms)
  if head then return self.handle(conn, head) end
  if err == "timeout" then
    refuse(conn, 408, "the head took too long")
  elseif err == "badrequest" then
    refuse(conn, status, why)
  end
  return false
end

local function serve(self, sock, ms)
  local conn <close> = setmetatable({sock = sock, reader = ba.http.reader(sock, "request", LIMITS), server = self,
                                     kept = ms ~= nil}, Conn)
  self.conns[conn] = true
  ms = ms or self.head_ms
  while one(self, conn, ms) and not self.closing do ms, conn.kept = self.idle_ms, true end
end

-- Serves a connected socket that is in blocking mode. ms: until the first request begins; without: what a head may take.
function Server:accepted(sock, ms)
  if not pcall(ba.thread.run, function() serve(self, sock, ms) end) then
    sock:close() -- too many jobs
  elseif not self.watching then
    self.watching = true
    self.watch:set(LOOK, true)
  end
end

-- No connection is accepted any more: those that wait for another request end now, the others with their answer. Who has not asked
-- for anything yet may: his request is perhaps on its way, and not every client asks again.
function Server:close()
  self.closing = true
  for conn in pairs(self.conns) do
    if conn.idle then conn.sock:close() end
  end
end

return server
