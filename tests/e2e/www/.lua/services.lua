-- Run by .preload with the application's table as _ENV: globals belong to the application.
local function echo(sock)
  while true do
    local data, text = sock:read()
    if not data then break end
    sock:write(data, text)
  end
  trace "echo ended"
end

function echo_coroutine(sock) echo(sock) end

-- data: of the next requests, read with this one.
function answer_and_return(sock, name, data)
  local body = "answered by a cosocket: " .. name
  sock:write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body)
  assert(ba.socket.sock2req(sock, data))
end
