-- A TCP proxy: every connection goes to one of the upstreams; when one refuses, to the next.
--
--   service "web" { script = "proxy.lua", listen = ":80", upstreams = { "10.0.0.1:80", "10.0.0.2:80" } }
--   cosockd proxy.lua :80 10.0.0.1:80 10.0.0.2:80
--
-- listen           an address or a list of them
-- upstreams        a list of addresses: "host:port", "[v6]:port" or "unix:/path"; { ADDRESS, maxconn = N }
--                  gives it no more than N connections at a time
-- balance          "roundrobin" (default): in turn; "leastconn": to the one with the fewest connections
-- connect_timeout  for each upstream that is tried ("1s")
-- fail_timeout     an upstream that failed is tried after all others for so long ("10s")
-- queue_timeout    how long a client may wait while every upstream has its maxconn ("5s")
-- idle_timeout     a tunnel without a byte either way for so long ends ("1h"; "never")
local address = require "cosock.address"
local duration = require "cosock.duration"
local upstreams = require "cosock.upstreams"

local args = ...
if type(args) ~= "table" then args = {listen = args, upstreams = {select(2, ...)}} end
local pool = upstreams.new(args.upstreams or {}, args)
assert(pool[1], "proxy.lua: no upstreams")
local connect_options = {timeout = duration(args.connect_timeout or "1s")}
local idle = duration(args.idle_timeout or "1h")

-- A tunnel whose end matters to the pool has a function that is called then; the others have no Lua object.
for _, upstream in ipairs(pool) do
  upstream.relay_options = {idle = idle, detach = true,
                            on_close = pool.counts and function() pool:leave(upstream) end or nil}
end

-- Says it at most once a second.
local said = 0
local function note_full()
  if ba.clock() - said < 1000 then return end
  said = ba.clock()
  tracep("warning", "every upstream has its maxconn: clients are closed")
end

-- Runs as a cosocket of its own, whose socket becomes the connection to an upstream.
local function tunnel(server, client)
  local tried = {}
  while true do
    local upstream <close>, why = pool:take(tried)
    if why == "timeout" then note_full() end
    if not upstream then break end
    tried[upstream] = true
    local ok, err = address.connect(upstream.address, connect_options)
    if err == "sysshutdown" then break end
    pool:result(upstream, err)
    -- From relay on both sockets are the engine's: no Lua runs for this tunnel any more.
    if ok and ba.socket.relay(client, server, upstream.relay_options) then
      if pool.counts then pool:keep(upstream) end
      return
    end
    if ok then break end -- the client has gone
  end
  client:close()
end

address.listen(args.listen, function(client) ba.socket.event(tunnel, client) end)
