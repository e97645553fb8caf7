local function webProxy(source, sink)
   while true do
      local data = source:read()
      if not data or not sink:write(data) then break end
   end
end

local function webProxyClient(client,server)
   -- ba.socket.connect returns socket or nil if it fails
   if ba.socket.connect(serverName,80) ~= client then return end
   server:enable(client)
   webProxy(client, server)
   client:close()
end

local function webProxyServer(server)
   ba.socket.event(webProxyClient, server)
   local client = server:disable()
   webProxy(server, client)
   server:close()
end

local function accept(s)
   while true do
      local s = s:accept(s)
      if not s then break end
      s:event(webProxyServer, "s")
   end
end

local s = ba.socket.bind(8080)
s:event(accept, "r")
