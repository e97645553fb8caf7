-- Binding a coroutine to a socket (ba-api A.3) and the guarantees of A.9
local check = require "check"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait

check.both("event runs its function at once", function()
  local steps = {}
  local sock = ba.socket.event(function(s, a, b, c)
    steps[#steps + 1] = {s, a, b, c}
    s:read(20)
    steps[#steps + 1] = "resumed"
  end, 1, nil, "x")
  eq(#steps, 1, "steps before event returned")
  eq(type(sock), "userdata")
  eq(steps[1][1], sock, "the socket is the first argument")
  eq(steps[1][2], 1)
  eq(steps[1][3], nil)
  eq(steps[1][4], "x")
  wait(function() return steps[2] end)
end)

check.both("an unconnected cosocket", function()
  local name, connected, sockname
  local sock = ba.socket.event(function(s)
    name, connected = s:state()
    s:disable()
  end)
  eq(name, "exec")
  eq(connected, false)
  results({"disabled", false}, sock:state())
  sock:close()
end)

check.both("connect binds the cosocket's own socket", function()
  local listener, port = check.listen(check.echo)
  local got, second, third
  ba.socket.event(function(s)
    got = ba.socket.connect("127.0.0.1", port) == s
    second = table.pack(ba.socket.connect("127.0.0.1", port))
    third = table.pack(ba.socket.bind(0, {intf = "127.0.0.1"}))
    s:write("still there")
    eq(s:read(), "still there")
    got = got and "done"
  end)
  eq(got, nil, "connect always suspends")
  wait(function() return got == "done" end)
  results({nil, "incorrectuse"}, table.unpack(second, 1, second.n))
  results({nil, "incorrectuse"}, table.unpack(third, 1, third.n))
  listener:close()
end)

check.both("bind binds the cosocket's own socket, and it can accept", function()
  local port, same, served
  local sock = ba.socket.event(function(s)
    same = ba.socket.bind(0, {intf = "127.0.0.1"}) == s
    port = select(2, s:sockname())
    local client = s:accept()
    client:write("hello")
    client:close()
    served = true
  end)
  eq(same, true)
  local client = check.in_cosocket(function(s)
    assert(ba.socket.connect("127.0.0.1", port))
    return (s:read())
  end)
  eq(client, "hello")
  wait(function() return served end)
  results({"terminated", false}, sock:state())
end)

check.both("a failed connect leaves the cosocket free to try again", function()
  local listener, port = check.listen(check.echo)
  local dead = check.dead_port()
  check.in_cosocket(function(s)
    local none, err = ba.socket.connect("127.0.0.1", dead)
    eq(none, nil)
    eq(err, "cannotconnect")
    results({"exec", false}, s:state())
    eq(ba.socket.connect("127.0.0.1", port), s)
    results({"exec", true}, s:state())
  end)
  listener:close()
end)

check.job("in a job connect makes a socket of its own", function()
  local listener, port = check.listen(check.echo)
  local a = ok(ba.socket.connect("127.0.0.1", port))
  local b = ok(ba.socket.connect("127.0.0.1", port))
  ok(a ~= b)
  results({"exec", true}, a:state())
  a:write("1")
  b:write("2")
  eq(a:read(), "1")
  eq(b:read(), "2")
  a:close()
  b:close()
  listener:close()
end)

check.job("in an \"r\" coroutine and in a timer too", function()
  local listener, port = check.listen(check.echo)
  local sock = ok(ba.socket.connect("127.0.0.1", port))
  local separate
  sock:event(function(s)
    local mine = ok(ba.socket.connect("127.0.0.1", port))
    separate = mine ~= s
    mine:close()
  end)
  wait(function() return separate ~= nil end)
  eq(separate, true)
  local t = ba.timer(function()
    local mine = ok(ba.socket.connect("127.0.0.1", port))
    mine:write("timer")
    separate = mine:read()
    mine:close()
  end)
  t:set(1, true)
  wait(function() return separate == "timer" end)
  listener:close()
end)

check.job("s:event runs at once, with its arguments, and returns the socket", function()
  for _, mode in ipairs {"r", "s"} do
    local a, b = check.pair()
    local seen
    eq(a:event(function(...) seen = table.pack(...) end, mode, "x", nil, 7), a)
    eq(seen.n, 4)
    eq(seen[1], a)
    eq(seen[2], "x")
    eq(seen[3], nil)
    eq(seen[4], 7)
    b:close()
  end
end)

check.job("the default mode is \"r\"", function()
  local a, b = check.pair()
  local owner
  a:event(function(s) owner = s:owner() end)
  eq(owner, false, "owner() in an \"r\" coroutine")
  b:close()
end)

check.both("when its function returns, the socket closes", function()
  local closed
  local listener, port = check.listen(function(s)
    local data, err = s:read()
    closed = {data, err}
  end)
  local sock = ba.socket.event(function(s) ok(ba.socket.connect("127.0.0.1", port)) end)
  wait(function() return closed end)
  results({nil, "socketclosed"}, closed[1], closed[2])
  results({"terminated", false}, sock:state())
  listener:close()
end)

check.job("likewise an \"r\" coroutine's", function()
  local a, b = check.pair()
  a:event(function() end, "r")
  results({nil, "socketclosed"}, b:read())
  b:close()
end)

check.both("an error in the function closes only that socket", function()
  local served = 0
  local listener, port = check.listen(function(s)
    local data = s:read()
    served = served + 1
    if data == "bad" then error "expected in the log: handler" end
    s:write(data)
  end)
  local function try(word)
    return check.in_cosocket(function(s)
      ok(ba.socket.connect("127.0.0.1", port))
      s:write(word)
      return s:read()
    end)
  end
  eq(try "good", "good")
  results({nil, "socketclosed"}, try "bad")
  eq(try "good again", "good again")
  eq(served, 3)
  listener:close()
end)

check.job("re-binding a socket from inside its own coroutine", function()
  local a, b = check.pair()
  local steps = {}
  a:event(function(s)
    s:write("1")
    s:event(function(t)
      eq(t, s)
      ok(t:owner(), "the new coroutine owns it")
      steps[#steps + 1] = "new"
      local data = t:read()
      steps[#steps + 1] = data
      t:write("2")
      t:read()
    end, "s")
    steps[#steps + 1] = "old goes on"
    eq(s:owner(), false)
    -- returns: that must not close the socket
  end, "s")
  eq(table.concat(steps, ","), "new,old goes on")
  eq(b:read(), "1")
  b:write("ping")
  eq(b:read(1000), "2")
  eq(steps[3], "ping")
  results({"read", true}, a:state())
  b:close()
  wait(function() return a:state() == "terminated" end)
end)

check.job("the old coroutine may go on, but not read", function()
  local a, b = check.pair()
  local old, readable
  a:event(function(s)
    s:event(function(t) t:write(t:read()) t:read() end, "s")
    for _ = 1, 5 do -- nobody but the engine holds this coroutine now
      ba.sleep(2)
    end
    readable = pcall(s.read, s, 0)
    old = ba.socket.getsock() == nil or ba.socket.getsock() == s
  end, "s")
  wait(function() collectgarbage() return old ~= nil end)
  eq(old, true, "getsock")
  eq(readable, false, "the old coroutine read")
  b:write("x")
  eq(b:read(), "x")
  results({"read", true}, a:state())
  b:close()
end)

check.job("from \"r\" to \"s\" and from outside after the coroutine's end", function()
  local a, b = check.pair()
  local first
  a:event(function(s)
    first = s:read()
    s:event(function(t)
      t:write(t:read())
    end, "s")
  end, "r")
  b:write("1")
  wait(function() return first end)
  b:write("2")
  eq(b:read(), "2")
  results({nil, "socketclosed"}, b:read())
  b:close()
end)

check.cosocket("getsock is the cosocket of the running coroutine", function(sock)
  eq(ba.socket.getsock(), sock)
  eq(sock:owner(), true)
  local inner
  local other = ba.socket.event(function(s)
    inner = ba.socket.getsock() == s and s:owner() and not sock:owner()
    s:disable()
  end)
  eq(inner, true)
  eq(other:owner(), false)
  eq(ba.socket.getsock(), sock)
  other:close()
end)

check.job("elsewhere getsock is nil and owner false", function()
  eq(ba.socket.getsock(), nil)
  local a, b = check.pair()
  eq(a:owner(), false)
  local r
  a:event(function(s) r = {ba.socket.getsock(), s:owner()} end, "r")
  eq(r[1], nil)
  eq(r[2], false)
  b:close()
  local t
  ba.timer(function() t = ba.socket.getsock() == nil end):set(0, true)
  wait(function() return t end)
end)

check.both("event wants a function", function()
  raises("function expected", ba.socket.event)
  raises("function expected", ba.socket.event, "x")
  local s = ba.socket.event(function(s) s:disable() end)
  raises("function expected", s.event, s)
  s:close()
end)

check.job("event wants a mode that exists, and \"r\" for a listener", function()
  local a, b = check.pair()
  raises("invalid option", a.event, a, print, "x")
  local listener = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
  raises("\"r\"", listener.event, listener, print, "s")
  listener:close()
  a:close()
  b:close()
end)

check.job("event on a closed socket gives an error value", function()
  local a, b = check.pair()
  a:close()
  local ran
  results({nil, "closed"}, a:event(function() ran = true end, "s"))
  eq(ran, nil)
  b:close()
end)

check.both("event beyond the nesting limit runs later, but runs", function()
  local deepest, ended = 0, 0
  local function nest(s, depth)
    deepest = math.max(deepest, depth)
    if depth < 300 then ba.socket.event(nest, depth + 1) end
    ended = ended + 1
  end
  ba.socket.event(nest, 1)
  wait(function() return ended == 300 end)
  eq(deepest, 300)
end)

check.both("between two calls nothing else runs", function()
  local other = 0
  ba.thread.run(function() other = other + 1 end)
  local t = ba.timer(function() other = other + 1 end)
  t:set(0)
  local start = ba.clock()
  while ba.clock() - start < 20 do end
  eq(other, 0)
  wait(function() return other == 2 end)
end)

check.both("3,000 cosockets", function()
  local n = 0
  for i = 1, 3000 do
    ba.socket.event(function(s) s:read(i % 50) n = n + 1 end)
  end
  wait(function() return n == 3000 end)
end)
