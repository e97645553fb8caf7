<?lsp
-- A WebSocket client in a page.
local msg = request:data "msg"
if msg then
  local http = require"httpc".create {shark = request:issecure() and ba.create.sharkssl() or nil}
  local ok, err = http:request {url = request:data "url"}
  print("request", ok, err)
  for name, value in http:headerpairs() do if name:lower() == "x-hub" then print(name, value) end end
  if http:status() == 101 then
    local sock = assert(ba.socket.http2sock(http))
    sock:write(msg, true)
    print("echo", sock:read(5000))
    sock:close()
  else
    print("status", http:status())
  end
end
?>
