local function webProxy(source,sink)
   while true do
      local data = source:read()
      if not data or not sink:write(data) then break end
   end
end

local function webProxyClient(client)
   local server = ba.socket.connect(serverName,80);
   if server then
      client:enable(server)
      webProxy(server, client)
      client:close()
   end
end

local function webProxyServer(client)
   ba.socket.event(function() webProxyClient(client) end)
   local server = client:disable()
   if server then
      webProxy(client, server)
      server:close()
   end
end

local function accept(s)
   while true do
      local s = s:accept(s)
      if not s then break end
      s:event(webProxyServer, "s")
   end
end

local s = ba.socket.bind(8080)
s:event(accept)
