-- A small MQTT broker (QoS 0; 3.1.1 and 5) in the manner of published ones: a cosocket for each client, which reads,
-- and one more, which sends from a ring and sleeps in disable() while there is nothing to send.
local h2n, n2h = ba.socket.h2n, ba.socket.n2h
local clients = {}

local function length(n)
  local out = ""
  repeat
    out = out .. string.char(n & 0x7f | (n > 127 and 0x80 or 0))
    n = n >> 7
  until n == 0
  return out
end

local function sender(sock, c)
  while not c.over do
    if c.head == c.tail then
      sock:disable()
    else
      c.sock:write(c.ring[c.head])
      c.ring[c.head] = nil
      c.head = c.head + 1
    end
  end
end

local function send(c, kind, body)
  c.ring[c.tail] = string.char(kind) .. length(#body) .. body
  c.tail = c.tail + 1
  c.sender:enable()
end

local function matches(filter, topic)
  if filter:sub(-1) == "#" then return topic:sub(1, #filter - 1) == filter:sub(1, -2) end
  return filter == topic
end

local handle = {}

handle[0x10] = function(c, body)
  c.version = body:byte(7)
  send(c, 0x20, c.version == 5 and "\0\0\2\36\0" or "\0\0") -- 5: maximum QoS 0
end
handle[0x80] = function(c, body)
  local at = c.version == 5 and 4 + body:byte(3) or 3
  local size = n2h(2, body, at)
  c.filters[#c.filters + 1] = body:sub(at + 2, at + 1 + size)
  send(c, 0x90, body:sub(1, 2) .. (c.version == 5 and "\0" or "") .. "\0")
end
handle[0x30] = function(c, body)
  local size = n2h(2, body)
  local topic, at = body:sub(3, 2 + size), 3 + size
  if c.version == 5 then at = at + 1 + body:byte(at) end
  local head, payload = h2n(2, size) .. topic, body:sub(at)
  for other in pairs(clients) do
    for _, filter in ipairs(other.filters) do
      if matches(filter, topic) then
        send(other, 0x30, head .. (other.version == 5 and "\0" or "") .. payload)
        break
      end
    end
  end
end
handle[0xC0] = function(c) send(c, 0xD0, "") end
handle[0xE0] = function(c) c.over = true end

-- Complete packets at the beginning of the text; returns what is left.
local function take(c, text)
  while true do
    local n, shift, at, byte = 0, 0, 2, nil
    repeat
      byte = text:byte(at)
      if not byte then return text end
      n, shift, at = n | (byte & 0x7f) << shift, shift + 7, at + 1
    until byte < 0x80
    if #text < at - 1 + n then return text, at - 1 + n end
    local f = handle[text:byte() & 0xf0]
    if f then f(c, text:sub(at, at - 1 + n)) end
    text = text:sub(at + n)
  end
end

local function serve(sock)
  local c = {sock = sock, filters = {}, ring = {}, head = 1, tail = 1}
  c.sender = ba.socket.event(sender, c)
  clients[c] = true
  local parts, have, need = {}, 0, 2
  while not c.over do
    local data = sock:read(120000)
    if not data then break end
    parts[#parts + 1], have = data, have + #data
    if have >= need then
      local rest, want = take(c, table.concat(parts))
      parts, have, need = {rest}, #rest, want or 2
    end
  end
  clients[c] = nil
  c.over = true
  c.sender:enable()
end

local listener = assert(ba.socket.bind(tonumber((...)), {intf = "127.0.0.1"}))
listener:event(function(s)
  for client in s.accept, s do client:event(serve, "s") end
end)
