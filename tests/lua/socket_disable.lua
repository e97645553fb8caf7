-- disable and enable (ba-api A.6)
local check = require "check"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait

-- A connected cosocket that runs f(sock), and the peer's end.
local function cosocket(f, mode)
  local a, b = check.pair()
  a:event(f, mode or "s")
  return a, b
end

for _, mode in ipairs {"r", "s"} do
  check.job("enable resumes at once, with its values; mode " .. mode, function()
    local steps = {}
    local a, b = cosocket(function(s)
      steps[#steps + 1] = table.pack(s:disable())
      steps[#steps + 1] = table.pack(s:disable())
      s:read()
    end, mode)
    results({"disabled", true}, a:state())
    a:enable(1, nil, "x", print, nil)
    local got = ok(steps[1], "resumed before enable returned")
    eq(got.n, 5)
    results({1, nil, "x", print, nil, n = 5}, table.unpack(got, 1, got.n))
    a:enable()
    eq(steps[2].n, 0)
    results({"read", true}, a:state())
    a:close()
    b:close()
  end)
end

check.both("an unconnected cosocket", function()
  local values = {}
  local s = ba.socket.event(function(s)
    while true do
      local v = s:disable()
      if v == nil then break end
      values[#values + 1] = v
    end
  end)
  for i = 1, 100 do s:enable(i) end
  eq(#values, 100)
  eq(values[100], 100)
  s:enable()
  results({"terminated", false}, s:state())
  eq(s:enable(1), true, "on an ended one: nothing")
end)

check.both("the target runs first, the caller afterwards", function()
  local order = {}
  local s = ba.socket.event(function(s)
    s:disable()
    order[#order + 1] = "target"
    s:disable()
  end)
  order[#order + 1] = "caller before"
  s:enable()
  order[#order + 1] = "caller after"
  eq(table.concat(order, ","), "caller before,target,caller after")
  s:close()
end)

check.both("not remembered by one that reads, writes, connects or has ended", function()
  local listener, port = check.listen(check.echo)
  local steps = {}
  local s = ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    steps[#steps + 1] = "connected"
    s:read()
    steps[#steps + 1] = "read"
    s:disable()
    steps[#steps + 1] = "enabled"
    s:disable()
  end)
  s:enable("while it connects")
  wait(function() return s:state() == "read" end)
  s:enable("while it reads")
  eq(#steps, 1)
  s:write("x")
  wait(function() return steps[2] end)
  results({"disabled", true}, s:state())
  eq(#steps, 2)
  s:enable()
  eq(steps[3], "enabled")
  s:close()
  listener:close()
end)

check.both("nor by one that is suspended in a write", function()
  local accepted
  local listener, port = check.listen(function(s)
    accepted = s
    s:disable()
    while s:read() do end
  end)
  local steps = {}
  local s = ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    s:write(check.bulk("x", 30000000))
    steps[#steps + 1] = "written"
    s:disable()
    steps[#steps + 1] = "enabled"
  end)
  wait(function() return s:state() == "write" and accepted end)
  s:enable("lost")
  results({"write", true}, s:state())
  results({nil, "incorrectuse"}, s:disable())
  accepted:enable()
  wait(function() return s:state() == "disabled" end)
  eq(#steps, 1)
  s:close()
  listener:close()
end)

check.both("latched once while the target is executing", function()
  local got = {}
  local s
  local function answer(...) s:enable(...) end -- called by the target, before it reaches disable
  s = ba.socket.event(function(sock)
    sock:disable()
    answer("first", nil, 3)
    answer("second")
    got[1] = table.pack(sock:disable())
    got[2] = "waits again"
    got[3] = table.pack(sock:disable())
  end)
  s:enable()
  results({"first", nil, 3}, table.unpack(got[1], 1, got[1].n))
  eq(got[1].n, 3)
  eq(got[3], nil)
  s:enable("later")
  eq(got[3][1], "later")
end)

check.job("a hang-up wakes it", function()
  local got
  local a, b = cosocket(function(s)
    got = table.pack(s:disable())
    got.state = table.pack(s:state())
  end)
  b:close()
  wait(function() return got and got.state end)
  results({nil, "socketclosed"}, table.unpack(got, 1, got.n))
  eq(got.state[2], false)
  wait(function() return a:state() == "terminated" end)
end)

check.job("unread data before the peer's end is not lost", function()
  local got
  local a, b = cosocket(function(s)
    s:disable()
    got = {s:read()}
    got.last = table.pack(s:read())
  end)
  b:write("request")
  b:close()
  ba.sleep(30)
  eq(got, nil, "the peer's end woke it although data waits")
  a:enable()
  wait(function() return got and got.last end)
  eq(got[1], "request")
  results({nil, "socketclosed"}, table.unpack(got.last, 1, got.last.n))
end)

check.job("reading stops: the peer's writes back up", function()
  local a, b = cosocket(function(s) s:disable() end)
  local total = 0
  ba.thread.run(function()
    while b:write(("x"):rep(65536)) do total = total + 65536 end
  end)
  wait(function() return total > 0 end)
  ok(check.settled(function() return total end) < 32000000, total .. " bytes went into a disabled socket")
  a:close()
  b:close()
end)

check.job("once closed, it gives incorrectuse at once", function()
  local got
  local a, b = cosocket(function(s)
    s:read()
    got = table.pack(s:disable())
  end)
  a:close()
  wait(function() return got end)
  results({nil, "incorrectuse"}, table.unpack(got, 1, got.n))
  b:close()
end)

check.both("from outside, while the target reads", function()
  local listener, port = check.listen(function(s)
    while true do
      local data = s:read()
      if not data then break end
      s:write(data)
    end
  end)
  local seen = {}
  local s = ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    while true do
      local data, err = s:read()
      seen[#seen + 1] = data or err
      if not data then break end
    end
  end)
  wait(function() return s:state() == "read" end)
  eq(s:disable(), true)
  results({"disabled", true}, s:state())
  s:write("held back")
  ba.sleep(30)
  eq(#seen, 0)
  s:enable("ignored", "too")
  wait(function() return seen[1] end)
  eq(seen[1], "held back")
  results({"read", true}, s:state())
  s:close()
  wait(function() return seen[2] end)
  eq(seen[2], "closed")
  listener:close()
end)

check.both("from outside, and the peer hangs up meanwhile", function()
  local accepted
  local listener, port = check.listen(function(s) accepted = s s:read() end)
  local got
  local s = ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    got = table.pack(s:read())
  end)
  wait(function() return s:state() == "read" and accepted end)
  eq(s:disable(), true)
  accepted:close()
  ba.sleep(20)
  s:enable()
  wait(function() return got end)
  results({nil, "socketclosed"}, table.unpack(got, 1, got.n))
  listener:close()
end)

-- A cosocket that waits in read(ms), and its peer.
local function reader(ms)
  local got
  local a, b = check.pair()
  a:event(function(s) got = table.pack(s:read(ms)) s:disable() end, "s")
  return a, b, function() return got end
end

check.job("from outside, and the peer hangs up: it wakes without an enable", function()
  local a, b, got = reader()
  eq(a:disable(), true)
  b:close()
  wait(got)
  results({nil, "socketclosed"}, table.unpack(got(), 1, got().n))
  a:close()
end)

check.job("from outside, with unread data before the peer's end: that waits for enable", function()
  local a, b, got = reader()
  eq(a:disable(), true)
  b:write("data")
  b:close()
  ba.sleep(30)
  eq(got(), nil)
  results({"disabled", true}, a:state())
  a:enable()
  wait(got)
  eq(got()[1], "data")
  a:close()
end)

check.job("from outside: the time given to read goes on, and ends it", function()
  local a, b, got = reader(20)
  eq(a:disable(), true)
  b:write("late")
  wait(got)
  eq(got()[1], "late", "data was there when the time was over")
  a:close()
  b:close()
  a, b, got = reader(20)
  eq(a:disable(), true)
  wait(got)
  results({nil, "timeout"}, table.unpack(got(), 1, got().n))
  results({"disabled", true}, a:state())
  eq(a:enable(), true, "its own disable now")
  a:close()
  b:close()
end)

check.both("from outside, one that sleeps unconnected", function()
  local got
  local s = ba.socket.event(function(s) got = table.pack(s:read(60000)) end)
  eq(s:disable(), true)
  results({"disabled", false}, s:state())
  s:enable()
  results({"read", false}, s:state())
  s:close()
  wait(function() return got end)
  results({nil, "closed"}, table.unpack(got, 1, got.n))
end)

check.both("enable from a timer and from a job", function()
  local got = {}
  local s = ba.socket.event(function(s)
    got[1] = s:disable()
    got[2] = s:disable()
  end)
  local t = ba.timer(function() s:enable("timer") end)
  t:set(5)
  wait(function() return got[1] end)
  ba.thread.run(function() s:enable("job") end)
  wait(function() return got[2] end)
  eq(got[1] .. got[2], "timerjob")
end)

check.both("an error in the target does not reach the caller", function()
  local s = ba.socket.event(function(s)
    s:disable()
    error "expected in the log: enabled target"
  end)
  eq(s:enable(), true)
  results({"terminated", false}, s:state())
end)

check.both("chains beyond the nesting limit run later, but run", function()
  local socks, n = {}, 0
  for i = 1, 300 do
    socks[i] = ba.socket.event(function(s)
      s:disable()
      n = n + 1
      if socks[i + 1] then socks[i + 1]:enable() end
    end)
  end
  socks[1]:enable()
  wait(function() return n == 300 end)
end)

check.both("two that enable each other", function()
  local n, ping, pong = 0, nil, nil
  ping = ba.socket.event(function(s)
    while n < 1000 do
      s:disable()
      n = n + 1
      pong:enable()
    end
  end)
  pong = ba.socket.event(function(s)
    while n < 1000 do
      s:disable()
      n = n + 1
      ping:enable()
    end
  end)
  ping:enable()
  -- One enables the other while that one is executing: latched, not lost.
  wait(function() return n >= 1000 end)
  ping:close()
  pong:close()
end)

check.both("a ring of senders (example 13b)", function()
  local listener, port = check.listen(nil)
  local ring, sent = {}, {}
  local sender = ba.socket.event(function(s)
    while true do
      while #ring > 0 do sent[#sent + 1] = table.remove(ring, 1) end
      if not s:disable() then break end
      assert(#ring > 0, "woken for nothing")
    end
  end)
  local function queue(m)
    ring[#ring + 1] = m
    sender:enable(true)
  end
  for i = 1, 50 do queue(i) end
  ba.thread.run(function() for i = 51, 100 do queue(i) end end)
  wait(function() return #sent == 100 end)
  for i = 1, 100 do eq(sent[i], i) end
  sender:close()
  listener:close()
end)
