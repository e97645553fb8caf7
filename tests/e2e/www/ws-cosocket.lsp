<?lsp
-- A function of the page outlives it; read with a time is its clock.
local function clock(sock)
  local n = 0
  while true do
    local data, err = sock:read(1)
    if data then
      sock:write("got " .. data, true)
    elseif err ~= "timeout" then
      break
    else
      n = n + 1
      sock:write("tick " .. n, true)
    end
  end
  trace("clock ends")
end
local sock = assert(ba.socket.req2sock(request))
sock:event(clock, "s")
trace "cosocket page ends"
?>
