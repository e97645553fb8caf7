<?lsp
-- The answer comes from a job, while a cosocket reads what the client sends meanwhile; then the connection goes back.
local sock, data = ba.socket.req2sock(request)
sock:event(function()
  while true do
    local more = sock:read()
    if not more then break end
    data = (data or "") .. more
  end
  trace "reader ended"
end, "s")
local name = request:data "name"
ba.thread.run(function()
  local body = "answered by a job: " .. name
  sock:write("HTTP/1.1 200 OK\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body)
  assert(ba.socket.sock2req(sock, data))
end)
?>
