-- The origin of bench/wrk/upgrade.lua: answers requests for a WebSocket, and closes.
--
--   cosockd wsupgrade.lua LISTENPORT

local websocket = require "cosock.websocket"

local function serve(_, client)
   local head = ba.http.reader(client, "request"):head(20000)
   local answer = head and websocket.answer(head)
   if answer then
      answer.header.Connection = "close, Upgrade"
      client:write(ba.http.response(101, answer.header))
   end
   client:close()
end

local listener = assert(ba.socket.bind(tonumber((...)), {intf = "127.0.0.1"}))
listener:event(function()
   while true do
      local client = listener:accept()
      if not client then break end
      ba.socket.event(serve, client)
   end
end, "r")
