-- The client's side of bench/compare --websockets: what comes in goes through a WebSocket of its own.
--
--   cosockd wsfront.lua LISTENPORT PORT      ws://127.0.0.1:PORT/

local websocket = require "cosock.websocket"
local listenport, port = ...

local function carry(_, client)
   local up = ba.socket.connect("127.0.0.1", tonumber(port), {timeout = 20000})
   local options = {subprotocols = {"binary"}, maxframe = 1 << 30, timeout = 20000}
   if not up or not websocket.connect(up, "127.0.0.1:" .. port, "/", options) or not ba.socket.relay(client, up, {detach = true}) then
      client:close()
      if up then up:close() end
   end
end

local listener = assert(ba.socket.bind(tonumber(listenport), {intf = "127.0.0.1"}))
listener:event(function()
   while true do
      local client = listener:accept()
      if not client then break end
      ba.socket.event(carry, client)
   end
end, "r")
