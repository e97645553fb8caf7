-- The proxy of the documents (listing 13): every byte passes through Lua, two cosockets per tunnel.
--
--   cosockd loop.lua LISTENPORT HOST PORT...       the ports are used in turn
--   service "loop" { script = "loop.lua", LISTENPORT, HOST, PORT, ... }

local args = table.pack(...)
if type(args[1]) == "table" then args = args[1] end   -- a service gets one table
local listenport, host = args[1], args[2]
local ports = table.pack(table.unpack(args, 3))
local turn = 0

local function webProxy(source, sink)
   while true do
      local data = source:read()
      if not data or not sink:write(data) then break end
   end
end

local function webProxyClient(client, server)
   turn = turn % ports.n + 1
   -- ba.socket.connect returns socket or nil if it fails
   if ba.socket.connect(host, tonumber(ports[turn]), {timeout = 20000}) ~= client then
      server:close()
      return
   end
   server:enable(client)
   webProxy(client, server)
   server:close()
end

local function webProxyServer(server)
   ba.socket.event(webProxyClient, server)
   local client = server:disable()
   if client then
      webProxy(server, client)
      client:close()
   end
end

local function accept(s)
   while true do
      local s = s:accept(s)
      if not s then break end
      s:event(webProxyServer, "s")
   end
end

local s = assert(ba.socket.bind(tonumber(listenport), {intf = "127.0.0.1"}))
s:event(accept, "r")
