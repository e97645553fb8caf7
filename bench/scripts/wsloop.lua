-- wsbridge.lua as users write it on the generic API: a loop of read and write in each direction, every byte through Lua.
--
--   cosockd wsloop.lua LISTENADDRESS TARGETADDRESS

local address = require "cosock.address"
local websocket = require "cosock.websocket"
local listen, target = ...

local function pump(from, to)
   while true do
      local data = from:read()
      if not data or not to:write(data) then break end
   end
   from:close()
   to:close()
end

local function serve(client)
   local head = ba.http.reader(client, "request"):head(10000)
   if not head or not websocket.accept(client, head, {subprotocols = {"binary", "mqtt"}, maxframe = 1 << 24}) then return end
   ba.socket.event(function(server)
      if not address.connect(target, {timeout = 20000}) then return client:close() end
      client:enable(server)
      pump(server, client)
   end)
   local server = client:disable()
   if server then pump(client, server) end
end

address.listen(listen, function(client) client:event(serve, "s") end)
