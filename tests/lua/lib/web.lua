-- Small HTTP servers for tests of clients.
local check = require "check"

local web = {}

local listeners = {}

-- A server at a free port: answer(sock, head, reader) for each request; false ends the connection. Returns its
-- port. counts.connections, counts.requests are kept if a table is given.
function web.serve(answer, options, counts)
  counts = counts or {}
  counts.connections, counts.requests = 0, 0
  local listener, port = check.listen(function(sock)
    counts.connections = counts.connections + 1
    local reader = ba.http.reader(sock, "request")
    while true do
      local head = reader:head()
      if not head then break end
      counts.requests = counts.requests + 1
      if answer(sock, head, reader) == false then break end
    end
  end, options)
  listeners[#listeners + 1] = listener
  return port
end

-- after_each(web.close)
function web.close()
  while listeners[1] do table.remove(listeners):close() end
end

-- The whole body of a request.
function web.body(reader)
  local parts, piece, err = {}, nil, nil
  repeat
    piece, err = reader:body()
    parts[#parts + 1] = piece
  until not piece
  return not err and table.concat(parts) or nil, err
end

-- Sends an answer with a body; header: a list of {name, value}, or a table, or nil. bare: to HEAD, so without the body.
function web.answer(sock, status, body, header, bare)
  local list = {}
  for name, value in pairs(header or {}) do list[#list + 1] = type(name) == "number" and value or {name, value} end
  list[#list + 1] = {"Content-Length", #(body or "")}
  sock:write(ba.http.response(status, list) .. (not bare and body or ""))
end

function web.url(port, path) return ("http://127.0.0.1:%d%s"):format(port, path or "/") end

return web
