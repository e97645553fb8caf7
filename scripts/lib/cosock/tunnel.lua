-- Tunnels to a pool of upstreams: a client goes to one of them; when that refuses, to the next. Once both are
-- connected the engine moves the bytes, and no Lua runs for the tunnel any more.
--
--   local web = tunnel.new({"10.0.0.1:80", "10.0.0.2:80"}, {balance = "leastconn"})
--   address.listen(":80", function(client) web:start(client) end)
local address = require "cosock.address"
local options = require "cosock.options"
local upstreams = require "cosock.upstreams"

local tunnel, methods = {}, {}
methods.__index = methods

-- list                   upstreams, as for upstreams.new
-- given.connect_timeout  for each upstream that is tried ("1s")
-- given.idle_timeout     a tunnel without a byte either way for so long ends ("1h"; "never")
-- given                  what upstreams.new wants, besides
-- connect                more options for ba.socket.connect
function tunnel.new(list, given, connect)
  local pool = upstreams.new(list, given)
  local t = setmetatable({pool = pool, connect = {timeout = options.duration(given, "connect_timeout", "1s")}}, methods)
  for name, value in pairs(connect or {}) do t.connect[name] = value end
  -- A tunnel whose end matters to the pool has a function that is called then; the others have no Lua object.
  local idle = options.duration(given, "idle_timeout", "1h", true)
  for _, upstream in ipairs(pool) do
    upstream.relay_options = {idle = idle, detach = true,
                              on_close = pool.counts and function() pool:leave(upstream) end or nil}
  end
  return t
end

-- Says it at most once a second.
local said = 0
local function note_full()
  if ba.clock() - said < 1000 then return end
  said = ba.clock()
  tracep("warning", "every upstream has its maxconn: clients are closed")
end

-- Called by a cosocket that is not connected: its socket becomes the connection to an upstream. The client is
-- closed when there is none.
function methods:carry(client)
  local pool, tried = self.pool, {}
  while true do
    local upstream <close>, why = pool:take(tried)
    if why == "timeout" then note_full() end
    if not upstream then break end
    tried[upstream] = true
    local server, err, _, reason = address.connect(upstream.address, self.connect)
    if err == "sysshutdown" then break end
    pool:result(upstream, err, reason)
    -- From relay on both sockets are the engine's.
    if server and ba.socket.relay(client, server, upstream.relay_options) then
      if pool.counts then pool:keep(upstream) end
      return
    end
    if server then break end -- the client has gone
  end
  client:close()
end

local function carry(_, self, client) self:carry(client) end

-- The same in a cosocket of its own; does not wait.
function methods:start(client) ba.socket.event(carry, self, client) end

return tunnel
