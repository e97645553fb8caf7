-- ba.socket.req2sock and sock2req: from a request to its connection and back (ba-api B.2).
local exchange = require "cosock.http.exchange"
local websocket = require "cosock.websocket"

local morph = {}

-- The server whose a connection was, so that it can be given back.
local servers = setmetatable({}, {__mode = "k"})

-- The connection is no longer the server's.
local function take(x)
  x.conn.taken, x.over = true, true
  servers[x.conn.sock] = x.conn.server
  return x.conn.sock
end

-- Whether a browser asks for a page of another origin: it sends passwords and cookies along, and reaches what only this network
-- may reach. Over TLS the page must have come over TLS; without it that is not known, because a proxy may speak TLS in front.
local function is_foreign(x, origins)
  local origin = x.head.header.origin
  if not origin then return false end -- no browser
  local scheme, host = origin:lower():match "^(%a[%w+.-]*)://([^/]+)$"
  local own = host and host == (x.head.header.host or ""):lower() and (scheme == "https" or not x:issecure())
  return not own and not websocket.is_origin(origin, origins)
end

-- After a refusal nothing has been sent, and the page may answer.
local function to_websocket(x, subprotocol, given)
  given = given or {}
  if is_foreign(x, websocket.origins(given.origins) or x.origins) then return nil, "badrequest", 403, "pages of this origin may not connect" end
  local options = {subprotocols = {subprotocol}, header = x.fields_out}
  for name, value in pairs(given) do options[name] = value end
  options.origins = nil -- looked at already
  local answer, status, why = websocket.answer(x.head, options)
  if not answer then return nil, "badrequest", status, why end
  local sock = take(x)
  local ok, err = websocket.accept(sock, x.head, options)
  if not ok then
    sock:close()
    return nil, err
  end
  return sock
end

-- A page's request becomes its socket: a WebSocket if it asks for one, else the connection as it is, and what has come
-- behind the head. options: for a WebSocket, those of websocket.answer and of ba.socket.websocket (messages, deflate ...).
function morph.req2sock(x, subprotocol, options)
  if not exchange.is(x) then error("bad argument #1 to 'req2sock' (request expected, got " .. type(x) .. ")", 2) end
  if x.conn.taken then return nil, "incorrectuse" end
  if websocket.is_request(x.head) then
    if x.sent then return nil, "iscommitted" end
    return to_websocket(x, subprotocol, options)
  end
  local sock = take(x)
  return sock, (sock:read(0))
end

-- The connection, with what has been read of the next request, goes back to the server that it came from.
function morph.sock2req(sock, data)
  local server = servers[sock]
  if not server or sock:websocket() then return nil, "incorrectuse" end
  if data and #data > 0 then
    local ok, err = sock:unread(data)
    if not ok then return nil, err end
  end
  servers[sock] = nil
  sock:disown()
  server:accepted(sock)
  return true
end

return morph
