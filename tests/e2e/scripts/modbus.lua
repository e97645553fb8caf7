-- A Modbus/TCP client against a simulator at $PORT: calls that wait, in a job and in a cosocket, and requests with
-- callbacks, for which the connection gets a cosocket of its own.
local h2n, n2h, fh2n, fn2h = ba.socket.h2n, ba.socket.n2h, ba.socket.fh2n, ba.socket.fn2h
local PORT = tonumber(os.getenv "PORT")

local Client = {}
Client.__index = Client

local function connect(options)
  local sock, err = ba.socket.connect("127.0.0.1", PORT, options) -- with fields of our own in it
  if not sock then return nil, err end
  return setmetatable({sock = sock, timeout = options and options.answer_ms or 3000, number = 0, rest = "", waiting = {}}, Client)
end

function Client:frame()
  local text = self.rest
  while #text < 6 or #text < 6 + n2h(2, text, 5) do
    local data, err = self.sock:read(self.timeout)
    if not data then
      self.rest = text
      return nil, err
    end
    text = text .. data
  end
  local size = 6 + n2h(2, text, 5)
  self.rest = text:sub(size + 1)
  local number, code = n2h(2, text), text:byte(8)
  if code & 0x80 ~= 0 then return false, "exception " .. text:byte(9), number end
  return text:sub(9, size), nil, number
end

function Client:send(code, body)
  self.number = self.number % 65535 + 1
  return self.sock:write(h2n(2, self.number) .. h2n(2, 0) .. h2n(2, #body + 2) .. "\1" .. string.char(code) .. body)
end

function Client:call(code, body)
  local ok, err = self:send(code, body)
  if not ok then return nil, err end
  return self:frame()
end

-- Requests without waiting: f(answer, err) is called by the reader.
function Client:async()
  self.sock:event(function(sock)
    assert(sock:owner())
    while true do
      local answer, err, number = self:frame()
      if answer == nil and err ~= "timeout" then
        self.ended = err
        return
      end
      if number then
        local f = self.waiting[number]
        self.waiting[number] = nil
        f(answer, err)
      end
    end
  end, "s")
end

function Client:ask(code, body, f)
  self.waiting[self.number % 65535 + 1] = f
  return self:send(code, body)
end

local function both(name, f)
  it(name .. " (job)", f)
  it(name .. " (cosocket)", f, {cosocket = true})
end

both("registers and coils", function()
  local c = assert(connect {answer_ms = 3000, port = "mine", async = false})
  assert(c:call(16, h2n(2, 10) .. h2n(2, 6) .. "\12" .. h2n(4, 0xfffffffe) .. fh2n(8, -1.5)))
  local answer = assert(c:call(3, h2n(2, 10) .. h2n(2, 6)))
  assert(answer:byte() == 12 and n2h(4, answer, 2) == 0xfffffffe and fn2h(8, answer, 6) == -1.5)
  assert(c:call(5, h2n(2, 3) .. h2n(2, 0xff00)))
  answer = assert(c:call(1, h2n(2, 0) .. h2n(2, 8)))
  assert(answer:byte(2) & 8 == 8)
  local none, err = c:call(3, h2n(2, 60000) .. h2n(2, 4))
  assert(none == false and err == "exception 2", err)
  local _, state = c.sock:state()
  assert(state)
  c.sock:close()
end)

both("a silent server: time-out, and the connection lives", function()
  local c = assert(connect {answer_ms = 30})
  local none, err = c:call(99, h2n(2, 200)) -- the simulator answers this after 200 ms
  assert(none == nil and err == "timeout", err)
  c.timeout = 3000
  assert(c:frame())
  assert(c:call(3, h2n(2, 0) .. h2n(2, 1)))
  c.sock:close()
end)

it("many requests at once", function()
  local c = assert(connect {answer_ms = 20})
  c:async()
  local answers = 0
  for i = 0, 99 do
    c:ask(3, h2n(2, 100 + i) .. h2n(2, 1), function(answer, err)
      assert(answer, err)
      assert(n2h(2, answer, 2) == 100 + i)
      answers = answers + 1
    end)
  end
  while answers < 100 do ba.sleep(2) end
  ba.sleep(60) -- time-outs of the reader do no harm
  assert(not c.ended)
  c.sock:close()
  while not c.ended do ba.sleep(2) end
  assert(c.ended == "closed", c.ended)
end)
