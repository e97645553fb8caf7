-- A TCP proxy: every connection goes to one of the upstreams, in turn; when one refuses, to the next.
--
--   service "web" { script = "proxy.lua", listen = ":80", upstreams = { "10.0.0.1:80", "10.0.0.2:80" } }
--   cosockd proxy.lua :80 10.0.0.1:80 10.0.0.2:80
--
-- listen           an address or a list of them
-- upstreams        a list of addresses: "host:port", "[v6]:port" or "unix:/path"
-- connect_timeout  for each upstream that is tried ("1s")
-- idle_timeout     a tunnel without a byte either way for so long ends ("1h"; "never")
local address = require "cosock.address"
local duration = require "cosock.duration"

local args = ...
if type(args) ~= "table" then args = {listen = args, upstreams = {select(2, ...)}} end
local upstreams = args.upstreams or {}
assert(upstreams[1], "proxy.lua: no upstreams")
for _, upstream in ipairs(upstreams) do assert(address.parse(upstream)) end
local connect_options = {timeout = duration(args.connect_timeout or "1s")}
local relay_options = {idle = duration(args.idle_timeout or "1h"), detach = true}

-- Says once that an upstream fails, and once that it works again.
local failing = {}
local function note(upstream, err)
  if failing[upstream] == err then return end
  failing[upstream] = err
  tracep(err and "warning" or "notice", ("upstream %s: %s"):format(upstream, err or "works again"))
end

-- Runs as a cosocket of its own, whose socket becomes the connection to an upstream.
local turn = 0
local function tunnel(server, client)
  local first = turn
  turn = (turn + 1) % #upstreams
  for i = 0, #upstreams - 1 do
    local upstream = upstreams[(first + i) % #upstreams + 1]
    local ok, err = address.connect(upstream, connect_options)
    if err == "sysshutdown" then break end
    note(upstream, err)
    -- From relay on both sockets are the engine's: no Lua runs for this tunnel any more.
    if ok and ba.socket.relay(client, server, relay_options) then return end
  end
  client:close()
end

address.listen(args.listen, function(client) ba.socket.event(tunnel, client) end)
