-- A Redis client with the errors of LuaSocket (sockcompat), against a real server at $PORT; in a job and in a cosocket.
local PORT = tonumber(os.getenv "PORT")
local await = require "await"

local Redis = {}
Redis.__index = Redis

local function connect(timeout)
  local sock, err = ba.socket.connect("127.0.0.1", PORT)
  if not sock then return nil, err end
  local self = setmetatable({sock = sock, timeout = timeout or 5000, rest = ""}, Redis)
  self.try = sockcompat.newtry(function() self.sock:close() end)
  return self
end

function Redis:need(n) -- at least n bytes in rest
  local parts, have = {self.rest}, #self.rest
  while have < n do
    local data = self.try(self.sock:read(self.timeout))
    parts[#parts + 1], have = data, have + #data
  end
  self.rest = table.concat(parts)
end

function Redis:line()
  while true do
    local at = self.rest:find("\r\n", 1, true)
    if at then
      local line = self.rest:sub(1, at - 1)
      self.rest = self.rest:sub(at + 2)
      return line
    end
    self:need(#self.rest + 1)
  end
end

function Redis:answer()
  local line = self:line()
  local kind, value = line:sub(1, 1), line:sub(2)
  if kind == ":" then return math.tointeger(value) end
  if kind == "-" then return nil, value end
  if kind == "+" then return value end
  local n = math.tointeger(value)
  if n < 0 then return false end
  if kind == "*" then
    local list = {}
    for i = 1, n do list[i] = self:answer() end
    return list
  end
  self:need(n + 2)
  local text = self.rest:sub(1, n)
  self.rest = self.rest:sub(n + 3)
  return text
end

function Redis:send(...)
  local words = {...}
  local out = {"*" .. #words .. "\r\n"}
  for _, word in ipairs(words) do out[#out + 1] = "$" .. #word .. "\r\n" .. word .. "\r\n" end
  self.try(self.sock:write(table.concat(out)))
end

Redis.call = sockcompat.protect(function(self, ...)
  self:send(...)
  return self:answer()
end)

local function both(name, f)
  it(name .. " (job)", f)
  it(name .. " (cosocket)", f, {cosocket = true})
end

both("commands", function()
  local r = assert(connect())
  assert(r:call("SET", "dog", "an animal") == "OK")
  assert(r:call("GET", "dog") == "an animal")
  assert(r:call("GET", "nobody") == false)
  local none, err = r:call "NONSENSE"
  assert(not none and err:find "unknown command", err)
  assert(r:call("DEL", "list") ~= nil and r:call("RPUSH", "list", "a", "b") == 2)
  assert(table.concat(r:call("LRANGE", "list", "0", "-1"), ",") == "a,b")
  r.sock:close()
end)

both("a pipeline of 1000", function()
  local r = assert(connect())
  r:call("DEL", "n")
  for _ = 1, 1000 do r:send("INCR", "n") end
  for i = 1, 1000 do assert(r:answer() == i) end
  r.sock:close()
end)

both("five megabytes there and back", function()
  local r = assert(connect())
  local big = ba.rndbs(50000):rep(100) .. "the end"
  assert(r:call("SET", "big", big) == "OK")
  assert(r:call("GET", "big") == big)
  r.sock:close()
end)

both("a time-out leaves the connection usable", function()
  local r = assert(connect(50))
  r:send("BLPOP", "never", "0.2")
  local data, err = r.sock:read(50)
  assert(not data and err == "timeout", err)
  r.timeout = 5000
  assert(r:answer() == false)
  assert(r:call "PING" == "PONG")
  r.sock:close()
end)

both("a dead server is an error", function()
  local r = assert(connect())
  local none, err = r:call "QUIT"
  assert(none == "OK", err)
  none, err = r:call "PING"
  assert(not none and (err == "socketclosed" or err == "socketreadfailed"), err)
  none, err = r:call "PING"
  assert(not none and err == "closed", err) -- by the finalizer
end)

it("messages of a channel, many writers", function()
  local got = {}
  local listening
  local sub = ba.socket.event(function()
    local r = assert(connect(60000))
    r:send("SUBSCRIBE", "news")
    r:answer()
    listening = true
    while #got < 200 do got[#got + 1] = r:answer()[3] end
  end)
  await(function() return listening end)
  local pub = assert(connect())
  pub.sock:event(function(s) while s:read() do end end, "s") -- answers are of no interest
  for i = 1, 20 do
    ba.thread.run(function() for j = 1, 10 do pub:send("PUBLISH", "news", i .. "." .. j) end end)
  end
  await(function() return sub:state() == "terminated" end)
  local last = {}
  for _, m in ipairs(got) do
    local i, j = m:match "(%d+)%.(%d+)"
    assert((last[i] or 0) + 1 == tonumber(j), m)
    last[i] = tonumber(j)
  end
  pub.sock:close()
end)
