-- WebSocket frames made and taken apart in Lua, for tests with a peer of plain TCP; pairs of WebSockets.
local check = require "check"
local ws = {op = {continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10}}

local function xor(data, mask)
  local key = string.unpack("<I8", mask .. mask)
  local padded = data .. ("\0"):rep(-#data % 8)
  local done = padded:gsub("........", function(eight) return string.pack("<I8", string.unpack("<I8", eight) ~ key) end)
  return done:sub(1, #data)
end

-- options: op (a name or a number, default binary), mask (4 bytes; true for any), fin (default true), rsv
function ws.frame(payload, options)
  options = options or {}
  local op = options.op or "binary"
  local first = (options.fin == false and 0 or 0x80) | (options.rsv or 0) << 4 | (ws.op[op] or op)
  local mask = options.mask == true and "\1\2\3\4" or options.mask
  local bit, n = mask and 0x80 or 0, options.length or #payload
  local head
  if n < 126 then
    head = string.pack(">BB", first, bit | n)
  elseif n < 65536 then
    head = string.pack(">BBI2", first, bit | 126, n)
  else
    head = string.pack(">BBI8", first, bit | 127, n)
  end
  if not mask then return head .. payload end
  return head .. mask .. xor(payload, mask)
end

-- Reads one frame from a plain socket: {op, fin, payload, masked}, or nil at the end. Bytes read too much stay in
-- `state` (a table).
function ws.read_frame(sock, state)
  local function need(n)
    while #(state.rest or "") < n do
      local data, err = sock:read(5000)
      if not data then return nil, err end
      state.rest = (state.rest or "") .. data
    end
    return true
  end
  local there, err = need(2)
  if not there then return nil, err end
  local a, b = state.rest:byte(1, 2)
  local n, at = b & 0x7f, 3
  if n == 126 then
    need(4)
    n, at = string.unpack(">I2", state.rest, 3)
  elseif n == 127 then
    need(10)
    n, at = string.unpack(">I8", state.rest, 3)
  end
  local masked = b & 0x80 ~= 0
  there, err = need(at - 1 + (masked and 4 or 0) + n)
  if not there then return nil, err end
  local mask = masked and state.rest:sub(at, at + 3)
  at = at + (masked and 4 or 0)
  local payload = state.rest:sub(at, at + n - 1)
  state.rest = state.rest:sub(at + n)
  if mask then payload = xor(payload, mask) end
  local op
  for name, number in pairs(ws.op) do
    if number == a & 15 then op = name end
  end
  return {op = op, fin = a & 0x80 ~= 0, rsv = a >> 4 & 7, payload = payload, masked = masked}
end

local function with(options, role)
  local op = {role = role}
  for k, v in pairs(options or {}) do op[k] = v end
  return op
end

-- A client and a server over TCP, or over what `pair` gives.
function ws.pair(options, pair)
  local client, server = (pair or check.pair)()
  assert(ba.socket.websocket(client, with(options, "client")))
  assert(ba.socket.websocket(server, with(options, "server")))
  return client, server
end

-- A WebSocket server and its peer, a plain TCP socket.
function ws.server(options)
  local peer, server = check.pair()
  assert(ba.socket.websocket(server, with(options, "server")))
  return server, peer
end

function ws.client(options)
  local client, peer = check.pair()
  assert(ba.socket.websocket(client, with(options, "client")))
  return client, peer
end

return ws
