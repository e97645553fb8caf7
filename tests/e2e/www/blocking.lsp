<?lsp
-- In a page connect gives a socket of its own, in blocking mode, and nobody is a cosocket.
assert(ba.socket.getsock() == nil)
local sock = assert(ba.socket.connect("127.0.0.1", tonumber(request:data "port")))
sock:write "ping"
print(sock:read(5000))

-- A coroutine may print into the page that waits for it.
local done
local other = assert(ba.socket.connect("127.0.0.1", tonumber(request:data "port")))
other:event(function(s)
  s:write "again"
  print(s:read(5000))
  done = true
end, "r")
while not done do ba.sleep(1) end
?>
