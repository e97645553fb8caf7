-- read (ba-api B.4) and what a waiting reader sees (A.7)
local check = require "check"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait

-- From a job of its own, so that it happens while the reader waits.
local function soon(f)
  ba.thread.run(function() ba.sleep(10) f() end)
end

check.every_mode("data arrives", function(a, b)
  soon(function() b:write("hello") end)
  eq(a:read(), "hello")
  soon(function() b:write("\0\255\0") end)
  eq(a:read(10000), "\0\255\0")
end)

check.every_mode("what waits already comes at once", function(a, b)
  b:write("one")
  ba.sleep(10)
  eq(a:read(0), "one")
  results({nil, "timeout"}, a:read(0))
end)

check.every_mode("a timeout leaves the socket usable", function(a, b)
  local start = ba.clock()
  results({nil, "timeout"}, a:read(30))
  ok(ba.clock() - start >= 29)
  results({nil, "timeout"}, a:read(1.5))
  results({"exec", true}, a:state())
  b:write("late")
  eq(a:read(1000), "late")
  a:write("and back")
  eq(b:read(), "and back")
end)

check.every_mode("the peer's data first, then its end", function(a, b)
  b:write("last words")
  b:close()
  ba.sleep(20)
  eq(a:read(), "last words")
  results({nil, "socketclosed"}, a:read())
  results({nil, "socketclosed"}, a:read(10))
  results({nil, "socketclosed"}, a:read(0))
end)

check.every_mode("the peer closes while read waits", function(a, b)
  soon(function() b:close() end)
  results({nil, "socketclosed"}, a:read())
end)

check.every_mode("somebody else closes while read waits", function(a)
  soon(function() a:close() end)
  results({nil, "closed"}, a:read())
  results({nil, "closed"}, a:read())
  results({nil, "closed"}, a:read(10))
  results({"terminated", false}, a:state())
end)

check.every_mode("its own close", function(a)
  eq(a:close(), true)
  results({nil, "closed"}, a:read())
  eq(a:close(), true)
end)

check.every_mode("megabytes, in pieces of any size, complete", function(a, b)
  local data = check.pattern(3000000)
  soon(function() b:write(data) b:close() end)
  local got, err = check.read(a, #data + 1)
  eq(#got, #data)
  ok(got == data, "bytes differ")
  eq(err, "socketclosed")
end)

check.every_mode("the time to read", function(a, b)
  raises("negative", a.read, a, -1)
  raises("finite", a.read, a, 0 / 0)
  soon(function() b:write("x") end)
  eq(a:read(4000000000), "x")
  soon(function() b:write("y") end)
  eq(a:read(nil, 100), "y", "extra arguments")
end)

check.job("only the owner reads a cosocket", function()
  local a, b = check.pair()
  a:event(function(s) s:read() end, "s")
  raises("own coroutine", a.read, a)
  raises("own coroutine", a.read, a, 0)
  check.in_cosocket(function() raises("own coroutine", a.read, a) end)
  raises("waits", a.event, a, function() end, "s")
  b:close()
end)

check.job("a second reader is told so", function()
  local a, b = check.pair()
  soon(function()
    raises("busy", a.read, a)
    b:write("x")
  end)
  eq(a:read(), "x")
  a:close()
  b:close()
end)

check.both("a cosocket reads and writes a blocking socket: only it waits", function()
  local a, b = check.pair()
  local turns, got = 0, nil
  local reader = ba.socket.event(function(s)
    got = a:read()
    turns = turns + 1
    a:write(got .. got)
    eq(ba.socket.getsock(), s)
    s:disable()
  end)
  results({"read", false}, reader:state())
  results({"read", true}, a:state())
  ba.sleep(2)
  eq(turns, 0)
  b:write("x")
  wait(function() return got end)
  eq(b:read(), "xx")
  results({"exec", true}, a:state())
  results({nil, "timeout"}, a:read(1))
  reader:close()
  a:close()
  b:close()
end)

check.both("an unconnected cosocket sleeps in read(ms)", function()
  check.in_cosocket(function(s)
    local start = ba.clock()
    results({nil, "timeout"}, s:read(30))
    ok(ba.clock() - start >= 29)
    results({nil, "incorrectuse"}, s:read())
    results({nil, "timeout"}, s:read(0))
  end)
end)

check.both("closed while it sleeps", function()
  local got
  local s = ba.socket.event(function(s) got = table.pack(s:read(60000)) end)
  results({"read", false}, s:state())
  s:close()
  wait(function() return got end)
  results({nil, "closed"}, table.unpack(got, 1, got.n))
end)

check.cosocket("read at any depth below its function", function(sock)
  local listener, port = check.listen(check.echo)
  ok(ba.socket.connect("127.0.0.1", port))
  local function deep(n)
    if n > 0 then return (deep(n - 1)) end
    sock:write("deep")
    return sock:read()
  end
  eq(deep(50), "deep")
  listener:close()
end)

check.job("a fast peer does not starve the others", function()
  local listener, port = check.listen(function(s)
    local block = ("x"):rep(65536)
    while s:write(block) do end
  end)
  local ticks, total, stop = 0, 0, false
  ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    while not stop do
      local data = s:read()
      if not data then break end
      total = total + #data
    end
  end)
  local t = ba.timer(function() ticks = ticks + 1 return true end)
  t:set(5)
  wait(function() return ticks >= 20 end)
  stop = true
  ok(total > 65536)
  t:cancel()
  listener:close()
end)

check.every_mode("unread: what was read comes again, first", function(a, b)
  b:write "hello"
  eq(check.read(a, 5, 5000), "hello")
  eq(a:unread "llo", true)
  eq(a:unread "he", true)
  b:write " again"
  eq(check.read(a, 11, 5000), "hello again")
  eq(a:unread "", true)
  results({nil, "timeout"}, a:read(0))
  b:close()
  results({nil, "socketclosed"}, a:read(5000))
  eq(a:unread "behind the end", true)
  eq(a:read(), "behind the end")
  results({nil, "socketclosed"}, a:read())
end)

check.job("unread: wakes who reads; needs a connection", function()
  local a, b = check.pair()
  local got
  a:event(function(s) got = s:read() end, "s")
  a:unread "for you"
  check.wait(function() return got end)
  eq(got, "for you")
  a:close()
  results({nil, "invalidsocketcon"}, a:unread "x")
  b:close()
end)

check.job("unread: not on a WebSocket, whose input is frames", function()
  local a, b = check.pair()
  ok(ba.socket.websocket(a, {role = "server"}))
  results({nil, "incorrectuse"}, a:unread "x")
  a:close()
  b:close()
end)

check.job("disown: the coroutine's end no longer closes it, and anybody reads", function()
  local a, b = check.pair()
  local listener = check.listen()
  results({nil, "incorrectuse"}, listener:disown())
  listener:close()
  eq(a:disown(), true) -- it had none
  local ended
  a:event(function(s)
    eq(s:disown(), true)
    eq(s:owner(), false)
    eq(ba.socket.getsock(), nil)
    ended = true
  end, "s")
  eq(ended, true)
  b:write "still there"
  eq(a:read(5000), "still there")
  eq(a:write "both ways", true)
  eq(b:read(5000), "both ways")
  -- Who waits is told that it is closed; who was about to get input does not get it.
  for _, first in ipairs {"", "input"} do
    local got
    a:event(function(s) got = table.pack(s:read()) end, "s")
    if first ~= "" then
      a:unread(first) -- wakes it; it runs later
    end
    eq(a:disown(), true)
    check.wait(function() return got end)
    results({nil, "closed"}, got[1], got[2])
    b:write " more"
    eq(check.read(a, #first + 5, 5000), first .. " more")
  end
  a:close()
  results({nil, "incorrectuse"}, a:disown())
  b:close()
end)

check.job("disown: a coroutine in disable() hears of it, whoever has the socket by then", function()
  local a, b = check.pair()
  local got
  a:event(function(s) got = table.pack(s:disable()) end, "s")
  eq(a:disown(), true)
  a:event(function(s) s:read() end, "s")
  for _ = 1, 2 do collectgarbage() end -- nothing but the task itself keeps the first one
  check.wait(function() return got end)
  results({nil, "closed"}, got[1], got[2])
  a:close()
  b:close()
end)
