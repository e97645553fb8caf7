local function webProxy(source,sink)
   while true do
      local data = source:read()
      if not data or not sink:write(data) then break end
   end
   sink:close()
end

local function webProxyClient(client)
   local server = ba.socket.connect(serverName,80);
   if server then
      client:enable(server)
      webProxy(server, client)
   end
end

local function webProxyServer(client)
   ba.socket.event(function() webProxyClient(client) end)
   local server = client:disable()
   webProxy(client, server)
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
