<?lsp
if request:header "x-flush" then
  response:setcontentlength(5)
  response:flush()
end
local sock, data = ba.socket.req2sock(request)
trace("raw", data)
assert(request:uri() == "/raw-socket.lsp" and request:header "host" and request:data "q" == "1" and not request:session())
assert(not pcall(print, "x") or true)
assert(response:write "x" == nil)
sock:write(data or "")
sock:event(app.echo_coroutine, "s")
?>
