-- Life time and collection (ba-api A.4)
local check = require "check"
local eq, ok, results, wait = check.eq, check.ok, check.results, check.wait

local function collect() collectgarbage() collectgarbage() end

check.both("a connected cosocket keeps itself", function()
  local listener, port = check.listen(check.echo)
  local echoed = 0
  for _ = 1, 10 do
    ba.socket.event(function(s)
      ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000}))
      for i = 1, 5 do
        s:write("x")
        s:read()
        ba.sleep(i)
      end
      echoed = echoed + 1
    end)
  end
  wait(function() collect() return echoed == 10 end)
  listener:close()
end)

check.both("so do one that connects, one that sleeps, and one that writes to another", function()
  local accepted
  local listener, port = check.listen(function(s)
    accepted = accepted or s
    s:disable()
    while s:read() do end
  end)
  local target = ba.socket.event(function(s) ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000})) s:read() end)
  wait(function() return accepted and target:state() == "read" end)
  local n = 0
  ba.socket.event(function() ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000})) n = n + 1 end)
  ba.socket.event(function(s) s:read(30) n = n + 1 end)
  ba.socket.event(function() ok(target:write(check.bulk("x", 20000000))) n = n + 1 end)
  collect()
  wait(function() collect() return n == 2 end)
  accepted:enable()
  wait(function() collect() return n == 3 end)
  target:close()
  listener:close()
end)

check.job("a listener with a coroutine, and a connected \"r\" socket", function()
  local port, served
  do
    local listener = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
    port = select(2, listener:sockname())
    listener:event(function(s)
      while true do
        local sock = s:accept()
        if not sock then break end
        sock:event(function(t)
          local data = t:read()
          if data == "stop" then s:close() else t:write(data) end
          served = data
        end, "r")
      end
    end, "r")
  end
  for _ = 1, 3 do
    collect()
    local sock = ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000}))
    collect()
    sock:write("x")
    eq(sock:read(), "x")
  end
  ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000})):write("stop")
  wait(function() collect() return served == "stop" end)
end)

check.job("what a script allocates at once does not collect beside thousands of coroutines at once", function()
  local waiting = {}
  for i = 1, 8000 do
    waiting[i] = coroutine.create(coroutine.yield)
    coroutine.resume(waiting[i])
  end
  collect()
  local garbage = setmetatable({{}}, {__mode = "v"})
  collectgarbage("step", 0)                       -- begins
  eq(#string.rep("x", 131072), 131072)
  ok(garbage[1], "a whole collection for 128 KiB")
  wait(function() collectgarbage("step", 0) return not garbage[1] end)
  eq(coroutine.status(waiting[1]), "suspended")
end)

check.both("a disabled connected cosocket that nobody holds is closed", function()
  local gone
  local listener, port = check.listen(function(s) s:disable() gone = "code ran after collection" end)
  local client
  ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000}))
    client = table.pack(s:read())
  end)
  wait(function() collect() return client end)
  results({nil, "socketclosed"}, table.unpack(client, 1, client.n))
  eq(gone, nil)
  listener:close()
end)

check.both("one that somebody holds stays", function()
  local held
  local listener, port = check.listen(function(s) held = s s:write(s:disable()) end)
  local client
  ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000}))
    client = s:read()
  end)
  wait(function() return held and held:state() == "disabled" end)
  for _ = 1, 5 do collect() end
  held:enable("still here")
  wait(function() return client end)
  eq(client, "still here")
  listener:close()
end)

check.both("and becomes live again when it is enabled", function()
  local held, got
  local listener, port = check.listen(function(s)
    held = s
    s:disable()
    got = s:read()
  end)
  local sock = check.in_job(ba.socket.connect, "127.0.0.1", port)
  wait(function() return held and held:state() == "disabled" end)
  held:enable()
  held = nil
  for _ = 1, 5 do collect() end
  sock:write("x")
  wait(function() return got end)
  sock:close()
  listener:close()
end)

check.both("an unconnected disabled cosocket that nobody holds goes silently", function()
  local weak, ran = setmetatable({}, {__mode = "k"}), false
  weak[ba.socket.event(function(s) s:disable() ran = true end)] = true
  wait(function() collect() return next(weak) == nil end)
  eq(ran, false)
end)

check.job("a blocking socket that nobody holds is closed", function()
  local closed
  local listener, port = check.listen(function(s) closed = table.pack(s:read()) end)
  do
    ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000}))
  end
  wait(function() collect() return closed end)
  results({nil, "socketclosed"}, table.unpack(closed, 1, closed.n))
  listener:close()
end)

check.job("finalizers may close and enable", function()
  local got, ended = nil, nil
  local s = ba.socket.event(function(s) got = s:disable() ended = true end)
  local a, b = check.pair()
  setmetatable({}, {__gc = function()
    s:enable("from a finalizer")
    a:close()
  end})
  wait(function() collect() return ended end)
  eq(got, "from a finalizer")
  results({nil, "socketclosed"}, b:read())
  b:close()
end)

check.job("what a finalizer enables or starts runs after it", function()
  local order, done = {}, false
  local s = ba.socket.event(function(s) s:disable() order[#order + 1] = "enabled" s:disable() end)
  setmetatable({}, {__gc = function()
    s:enable()
    ba.socket.event(function() order[#order + 1] = "started" end)
    order[#order + 1] = "finalizer ends"
    done = true
  end})
  wait(function() collect() return done end)
  wait(function() return #order == 3 end)
  eq(order[1], "finalizer ends")
  s:close()
end)

check.job("calls that wait are refused in a finalizer", function()
  local ok1, err1, done
  local a, b = check.pair()
  setmetatable({}, {__gc = function()
    ok1, err1 = pcall(a.read, a)
    done = true
  end})
  wait(function() collect() return done end)
  eq(ok1, false)
  ok(tostring(err1):find "finalizer", err1)
  a:close()
  b:close()
end)

check.job("an idle process collects by itself", function()
  local closed
  local listener, port = check.listen(function(s) s:disable() end)
  ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000}))
    closed = table.pack(s:read())
  end)
  -- Nothing but this one wait: no activity that would hide an abandoned connection for ever.
  while not closed do ba.sleep(2500) end
  listener:close()
end)

check.job("the coroutines that are left go on after that", function()
  local servers, clients, done, sum = {}, {}, 0, 0
  local listener, port = check.listen(function(s)
    servers[#servers + 1] = s
    local n = s:disable()
    sum = sum + n
    done = done + 1
  end)
  local function open(n)
    for _ = 1, n do clients[#clients + 1] = ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000})) end
    wait(function() return #servers == #clients end)
  end
  open(200)
  for i = 21, 200 do servers[i]:enable(0) end
  wait(function() return done == 180 end)
  ba.sleep(2500)
  open(20)
  for i = 1, 20 do
    servers[i]:enable(1)
    servers[200 + i]:enable(100)
  end
  wait(function() return done == 220 end)
  eq(sum, 2020)
  for _, s in ipairs(clients) do s:close() end
  listener:close()
end)

check.job("so does one that is never quiet", function()
  local closed
  local ballast = {} -- a collection of its own accord would take long to come
  for i = 1, 100000 do ballast[i] = {} end
  collect()
  local listener, port = check.listen(function(s) s:disable() end)
  ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000}))
    closed = table.pack(s:read())
  end)
  local ticks = 0
  local timer = ba.timer(function() ticks = ticks + 1 return true end)
  timer:set(200)
  while not closed do ba.sleep(300) end
  timer:cancel()
  ok(#ballast > 0)
  listener:close()
end)

check.job("a finalizer that closes the socket of a call: accept", function()
  local listener = ok(check.in_job(ba.socket.bind, 0, {intf = "127.0.0.1"}))
  local got
  listener:event(function(s) got = table.pack(check.with_finalizer(function() s:close() end, s.accept, s)) end, "r")
  wait(function() return got end)
  results({nil, "closed"}, got[1], got[2])
end)

check.job("a finalizer that closes the socket of a call: a write that has to wait", function()
  local bulk = check.bulk("x", 30000000)
  local function closed(a) return function() a:close() end end
  local a, b = check.pair()
  results({nil, "closed"}, check.with_finalizer(closed(a), a.write, a, bulk))
  b:close()
  a, b = check.pair() -- behind another one
  local begun, got
  ba.thread.run(function()
    begun = true
    a:write(bulk)
  end)
  wait(function() return begun end)
  ba.thread.run(function() got = table.pack(check.with_finalizer(closed(a), a.write, a, "y")) end)
  wait(function() return got end)
  results({nil, "closed"}, got[1], got[2])
  b:close()
end)

check.job("a finalizer that closes the socket of a call: a datagram and its sender; names", function()
  local a = ok(ba.socket.udpcon(0, {intf = "127.0.0.1"}))
  local b = ok(ba.socket.udpcon("127.0.0.1", (select(2, a:sockname()))))
  local _, port = b:sockname()
  b:write "one"
  eq(a:read(5000), "one")
  b:write "two"
  b:write(("three"):rep(100))
  eq(a:read(5000), "two")
  local data, ip, from = check.with_finalizer(function() a:close() end, a.read, a, 5000, true)
  results({("three"):rep(100), "127.0.0.1", port}, data, ip, from)
  results({nil, "closed"}, a:read())
  b:close()
  local listener = ok(ba.socket.bind(0, {intf = "127.0.0." .. 2})) -- a string that is not there any more
  _, port = listener:sockname()
  ip, from = check.with_finalizer(function() listener:close() end, listener.sockname, listener)
  results({"127.0.0.2", port, "terminated"}, ip, from, (listener:state()))
end)
