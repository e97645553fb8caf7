local function cosocketA(sockA, sockB) -- SockA not connected
   local fp = io:open"Large-Firmware.bin"
   while true do
      local data = fp:read()
      if not data then break end -- EOF
      sockB:write(data)
      -- sockA:read(300) -- Enable for send throttling
   end
   fp:close()
end

local function cosocketB(sockB, address, port)
   ba.socket.connect(address, port) -- Returns sockB or nil
   ba.socket.event(cosocketA, sockB)
   while true do
      local data = sockB:read()
      if not data then break end
      print(data)
   end
end

ba.socket.event(cosocketB, "MySpecialService", 1234)
