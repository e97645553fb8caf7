-- A tunnel per connection, both directions moved by the engine in C.
--
--   cosockd relay.lua LISTENPORT HOST PORT...      the ports are used in turn
--   service "relay" { script = "relay.lua", LISTENPORT, HOST, PORT, ... }
--
-- Once connected, a tunnel has no Lua object left: `detach` ends the coroutine's part in it.

local args = table.pack(...)
if type(args[1]) == "table" then args = args[1] end   -- a service gets one table
local listenport, host = args[1], args[2]
local ports = table.pack(table.unpack(args, 3))
local turn = 0

local function tunnel(_, peer)
   turn = turn % ports.n + 1
   local up = ba.socket.connect(host, tonumber(ports[turn]), {timeout = 20000})
   if up then
      ba.socket.relay(up, peer, {detach = true})
   else
      peer:close()
   end
end

local function accept(listener)
   while true do
      local peer = listener:accept()
      if not peer then break end
      ba.socket.event(tunnel, peer)
   end
end

local listener = assert(ba.socket.bind(tonumber(listenport), {intf = "127.0.0.1"}))
listener:event(accept, "r")
