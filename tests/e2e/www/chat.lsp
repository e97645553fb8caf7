<?lsp
if request:header "Sec-WebSocket-Key" then
  response:setheader("X-Hub", "ours")
  local sock, err = ba.socket.req2sock(request, request:data "sub")
  if sock then
    assert(sock:websocket() and sock:state() == "notcon")
    assert(request:uri() == "/chat.lsp" and not ba.socket.req2sock(request))
    sock:event(app.echo_coroutine, "s")
    return
  end
  trace("chat:", err)
end
?><p>Use WebSockets. Secure: <?lsp= request:issecure() ?></p>
