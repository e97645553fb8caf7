-- Everything at once, at random: sockets that connect, write, read, wait, enable and close each other, hand
-- themselves over, are relayed, forgotten and collected. No result matters but that the daemon lives, that
-- what must be delivered is, and that it all comes to an end.
--
--   SEED=N cosockd test tests/lua/stress.lua
local check = require "check"
local eq, ok, wait = check.eq, check.ok, check.wait

local seed = tonumber(os.getenv "SEED") or os.time() * 1000 + ba.clock() % 1000
math.randomseed(seed)
print("# seed " .. seed)

local random = math.random
local function pick(list) return list[random(#list)] end

local SIZES = {1, 10, 1000, 5000, 65536, 200000}
local blocks = {}
for _, size in ipairs(SIZES) do blocks[#blocks + 1] = check.pattern(size) end

local all = setmetatable({}, {__mode = "v"}) -- sockets that somebody still holds
local connecting = setmetatable({}, {__mode = "k"}) -- true for the ends that connected, not for accepted ones
local slots = 200
local function remember(s) all[random(slots)] = s end
local function someone() return all[random(slots)] end

local calls, raised = 0, {}

-- Errors of misuse are expected here; they are counted by their text.
local function try(f, ...)
  calls = calls + 1
  local results = table.pack(pcall(f, ...))
  if not results[1] then
    local text = tostring(results[2]):gsub("[%d.]+", "N"):sub(1, 60)
    raised[text] = (raised[text] or 0) + 1
  end
  return table.unpack(results, 2, results.n)
end

local port
local act -- below

local function life(s, steps)
  remember(s)
  for _ = 1, steps do
    if s:state() == "terminated" then break end
    act(s)
  end
end

local actions = {
  function(s) try(s.read, s, random(0, 3)) end,
  function(s) try(s.write, s, pick(blocks)) end,
  function(s) local t = someone() if t then try(s.write, t, pick(blocks)) end end,
  function() ba.sleep(random(0, 2)) end,
  function() local t = someone() if t then try(t.enable, t, random(9)) end end,
  function() local t = someone() if t then try(t.disable, t) end end,
  function(s) -- wait to be enabled, but not for ever
    local timer = ba.timer(function() s:enable("timer") end)
    timer:set(random(0, 5), true)
    try(s.disable, s)
    timer:cancel()
  end,
  function() if random(4) == 1 then local t = someone() if t then try(t.close, t) end end end,
  function(s) if random(6) == 1 then try(s.close, s) end end,
  function(s) if random(4) == 1 then try(s.event, s, life, pick {"r", "s"}, random(5)) end end,
  function() ba.socket.event(life, random(3)) end,
  function() ba.thread.run(function() local t = someone() if t then try(t.write, t, pick(blocks)) end end) end,
  function() ba.thread.run(function() -- a blocking socket, used and perhaps forgotten
    local t = try(ba.socket.connect, "127.0.0.1", port)
    if t then
      connecting[t] = true
      remember(t)
      try(t.write, t, pick(blocks))
      try(t.read, t, random(0, 3))
      if random(2) == 1 then try(t.close, t) end
    end
  end) end,
  function(s) -- relay it with another one; never both ends of something: the bytes would go round for ever
    local t = someone()
    if t and connecting[s] and connecting[t] and random(3) == 1 then
      try(ba.socket.relay, s, t, {idle = random(1, 20), detach = random(2) == 1})
    end
  end,
  function(s) try(coroutine.wrap(function() s:read(1) coroutine.yield() end)) end,
  function(s) try(s.state, s) try(s.peername, s) try(s.sockname, s) try(s.owner, s) try(tostring, s) end,
  function(s) try(s.setoption, s, "tcp-nodelay", random(2) == 1) try(s.queuelen, s, random(0, 50000)) end,
  function() if random(30) == 1 then collectgarbage() end end,
  function() if random(200) == 1 then error "expected in the log: stress" end end,
}

function act(s)
  pick(actions)(s)
  if random(10) == 1 then ba.sleep(0) end
end

local function client(s, steps)
  if random(10) == 1 then try(ba.socket.connect, "127.0.0.1", 1) end
  connecting[s] = true
  if try(ba.socket.connect, "127.0.0.1", port, {timeout = random(1, 1000)}) then life(s, steps) end
end

check.job("a world of random calls", function()
  local listener
  listener, port = check.listen(function(s) life(s, random(20)) end)
  local started, ended = 0, 0
  local deadline = ba.clock() + 4000
  while ba.clock() < deadline do
    for _ = 1, 5 do
      started = started + 1
      ba.socket.event(function(s)
        local guard <close> = setmetatable({}, {__close = function() ended = ended + 1 end})
        client(s, random(30))
      end)
    end
    ba.sleep(2)
    wait(function() return ba.socket.stat() < 1000 end, "fewer sockets")
  end
  listener:close()
  -- What still waits for somebody gets it: closed by hand, or collected.
  wait(function()
    for i = 1, slots do if all[i] then all[i]:close() end end
    collectgarbage()
    return ba.socket.stat() == 0
  end, "the end of all sockets")
  print(("# %d cosockets, %d calls"):format(started, calls))
end)

check.job("a clean connection next to it arrives whole", function()
  local listener
  listener, port = check.listen(function(s) life(s, random(20)) end)
  local echo, echo_port = check.listen(check.echo)
  local noise = true
  ba.thread.run(function()
    while noise do
      ba.socket.event(client, random(10))
      ba.sleep(1)
    end
  end)
  local data = check.pattern(3000000)
  for _ = 1, 3 do
    check.in_cosocket(function(s)
      ok(ba.socket.connect("127.0.0.1", echo_port, {timeout = 50000}))
      ba.socket.event(function() s:write(data) end)
      ok(check.read(s, #data) == data, "bytes differ")
    end)
  end
  noise = false
  listener:close()
  echo:close()
  wait(function()
    for i = 1, slots do if all[i] then all[i]:close() end end
    collectgarbage()
    return ba.socket.stat() == 0
  end, "the end of all sockets")
end)
