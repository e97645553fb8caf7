<?lsp
if page.r then page.r:close() end
if page.s then page.s:close() end
page.r, page.s = nil, nil
local port = tonumber(request:data "port")
if port then
  page.r = ba.socket.event(function(sock)
    assert(ba.socket.udpcon(port) == sock)
    while true do
      local data, ip, from = sock:read(true)
      if not data then break end
      trace("udp", data, ip, from > 0)
    end
    trace "receiver exits"
  end)
  page.s = ba.socket.event(function(sock)
    assert(ba.socket.udpcon() == sock)
    sock:setoption("broadcast", true)
    local n = 0
    repeat
      n = n + 1
      sock:sendto("datagram " .. n, "127.0.0.1", port)
      local _, err = sock:read(5)
    until err ~= "timeout"
    trace "sender exits"
  end)
end
?><a href="<?lsp=request:url()?>?stop=">stop</a>
