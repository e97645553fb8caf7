-- The proxy of the documents (listing 13): every byte passes through Lua, two cosockets per tunnel.
--
--   cosockd loop.lua LISTENPORT HOST PORT...       the ports are used in turn

local listenport, host = ...
local ports = table.pack(select(3, ...))
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
   if ba.socket.connect(host, tonumber(ports[turn])) ~= client then
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
