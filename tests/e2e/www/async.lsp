<?lsp
local sock, data = ba.socket.req2sock(request)
sock:event(app.answer_and_return, "s", request:data "name", data)
?>
