<?lsp
-- The page goes on with the socket in blocking mode until the browser leaves.
local sock = assert(ba.socket.req2sock(request))
local n = 0
repeat
  n = n + 1
  ba.sleep(1)
until ba == nil or not sock:write("message " .. n, true)
trace("blocking page ends", n > 3)
?>
