-- An MQTT client (3.1.1 and 5) that uses the socket API as published ones do: packets in a ring that a cosocket of
-- its own sends and that sleeps in disable() while the ring is empty; a reader that is a cosocket or the caller; a
-- timer for pings; for version 5, packets in byte arrays.
local h2n, n2h = ba.socket.h2n, ba.socket.n2h

local Client = {}
Client.__index = Client

local function text(s) return h2n(2, #s) .. s end

local function length(n)
  local out = ""
  repeat
    local byte = n & 0x7f
    n = n >> 7
    out = out .. string.char(n > 0 and byte | 0x80 or byte)
  until n == 0
  return out
end

function Client:packet(kind, body)
  local bytes = string.char(kind) .. length(#body) .. body
  return self.version == 5 and ba.bytearray.create(bytes) or bytes
end

-- One packet: its first byte and its body; or nil and why.
function Client:receive()
  local function more()
    local data, err = self.sock:read(self.timeout)
    if not data then return nil, err end
    self.rest = self.rest .. data
    return true
  end
  while true do
    local n, shift, at = 0, 0, 2
    local byte
    repeat
      byte = self.rest:byte(at)
      if not byte then break end
      n, shift, at = n | (byte & 0x7f) << shift, shift + 7, at + 1
    until byte < 0x80
    if byte and #self.rest >= at - 1 + n then
      local kind, body = self.rest:byte(), self.rest:sub(at, at - 1 + n)
      self.rest = self.rest:sub(at + n)
      return kind, body
    end
    if byte then -- a long one: collect the pieces without joining them each time
      local parts, have = {self.rest}, #self.rest
      while have < at - 1 + n do
        local data, err = self.sock:read(self.timeout)
        if not data then return nil, err end
        parts[#parts + 1], have = data, have + #data
      end
      self.rest = table.concat(parts)
    else
      local ok, err = more()
      if not ok then return nil, err end
    end
  end
end

local function sender(sock, self)
  while not self.over do
    if self.head == self.tail then
      sock:disable()
      if self.over then break end
      assert(self.head ~= self.tail, "woken for nothing")
    else
      local ok = self.sock:write(self.ring[self.head])
      self.ring[self.head] = nil
      self.head = self.head + 1
      if not ok then break end
    end
  end
end

function Client:send(kind, body)
  self.ring[self.tail] = self:packet(kind, body)
  self.tail = self.tail + 1
  self.sender:enable()
end

function Client:next_id()
  self.id = self.id % 65535 + 1
  return h2n(2, self.id)
end

local function properties(self) return self.version == 5 and "\0" or "" end

function Client:subscribe(topic, qos) self:send(0x82, self:next_id() .. properties(self) .. text(topic) .. string.char(qos or 0)) end

function Client:publish(topic, payload, qos)
  qos = qos or 0
  self:send(0x30 | qos << 1, text(topic) .. (qos > 0 and self:next_id() or "") .. properties(self) .. payload)
end

function Client:ping() self:send(0xC0, "") end

local function publish_came(self, kind, body)
  local size, qos = n2h(2, body), kind >> 1 & 3
  local topic, at = body:sub(3, 2 + size), 3 + size
  if qos > 0 then
    self:send(qos == 1 and 0x40 or 0x50, body:sub(at, at + 1))
    at = at + 2
  end
  if self.version == 5 then at = at + 1 + body:byte(at) end
  self.on_message(topic, body:sub(at))
end

-- Handles what comes until the connection ends; returns why.
function Client:run()
  while true do
    local kind, body = self:receive()
    if not kind then
      self.over = body
      self.ticker:cancel()
      self.sender:enable()
      return body
    end
    local what = kind & 0xf0
    if what == 0x30 then publish_came(self, kind, body)
    elseif what == 0x50 then self:send(0x62, body:sub(1, 2)) -- PUBREC: PUBREL
    elseif what == 0x60 then self:send(0x70, body:sub(1, 2)) -- PUBREL: PUBCOMP
    elseif what == 0x90 then self.subscribed = body:byte(-1)
    elseif what == 0xD0 then self.pongs = self.pongs + 1
    end
    if what == 0x40 or what == 0x70 then self.acknowledged = self.acknowledged + 1 end
  end
end

function Client:disconnect()
  self.over = "closed"
  self.sock:write(self:packet(0xE0, ""))
  self.sock:close() -- what was written is delivered
  self.sender:enable()
  self.ticker:cancel()
end

-- options: version (4, 5), on_message(topic, payload), will ({topic, payload}), ping (ms), blocking (the caller calls run).
local function connect(port, options)
  local self = setmetatable({version = options.version or 4, rest = "", ring = {}, head = 1, tail = 1, id = 0, pongs = 0, acknowledged = 0,
                             on_message = options.on_message or function() end}, Client)
  local err
  self.sock, err = ba.socket.connect("127.0.0.1", port, {timeout = 5000})
  if not self.sock then return nil, err end
  local will = options.will
  local body = text "MQTT" .. string.char(self.version, will and 6 or 2) .. h2n(2, 60) .. properties(self) ..
               text("test-" .. ba.b64urlencode(ba.rndbs(9)))
  if will then body = body .. properties(self) .. text(will[1]) .. text(will[2]) end
  self.sock:write(self:packet(0x10, body))
  local kind, answer = self:receive()
  if kind ~= 0x20 or answer:byte(2) ~= 0 then return nil, answer end
  self.sender = ba.socket.event(sender, self)
  self.ticker = ba.timer(function() self:ping() return true end)
  self.ticker:set(options.ping or 30000)
  if not options.blocking then
    self.sock:event(function() self:run() end, "s")
  end
  return self
end

return {connect = connect}
