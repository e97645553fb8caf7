-- ba.socket.connect, bind, accept and toip (ba-api B.1, A.7)
local check = require "check"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait

check.both("refused", function()
  local dead = check.dead_port()
  check.in_job(function()
    results({nil, "cannotconnect", "ECONNREFUSED"}, ba.socket.connect("127.0.0.1", dead))
  end)
  check.in_cosocket(function()
    results({nil, "cannotconnect", "ECONNREFUSED"}, ba.socket.connect("127.0.0.1", dead))
  end)
end)

check.both("a connect that fails at once suspends too", function()
  local got
  ba.socket.event(function()
    got = table.pack(ba.socket.connect("127.0.0.1", 80, {intf = "no such interface"}))
  end)
  eq(got, nil)
  wait(function() return got end)
  results({nil, "bind", "ENODEV"}, table.unpack(got, 1, got.n))
end)

check.job("a name that does not resolve", function()
  results({nil, "cannotresolve"}, ba.socket.connect("no such host", 80))
  check.in_cosocket(function()
    results({nil, "cannotresolve"}, ba.socket.connect("no such host", 80))
  end)
  results({nil, "cannotresolve"}, ba.socket.connect("", 80))
end)

check.job("closed by somebody else while it connects", function()
  local listener, port = check.listen(check.echo)
  local got
  local sock = ba.socket.event(function()
    got = table.pack(ba.socket.connect("127.0.0.1", port))
  end)
  results({"connect", false}, sock:state())
  sock:close()
  results({"terminated", false}, sock:state())
  eq(got, nil, "resumed inside close")
  wait(function() return got end)
  results({nil, "closed"}, table.unpack(got, 1, got.n))
  listener:close()
end)

check.job("ports: numbers, floats, strings", function()
  local listener, port = check.listen(check.echo)
  for _, p in ipairs {port, port + 0.0, tostring(port)} do
    ok(ba.socket.connect("127.0.0.1", p)):close()
  end
  raises("out of range", ba.socket.connect, "127.0.0.1", 65536)
  raises("out of range", ba.socket.connect, "127.0.0.1", -1)
  raises("number expected", ba.socket.connect, "127.0.0.1", "http")
  raises("number expected", ba.socket.connect, "127.0.0.1")
  raises("string expected", ba.socket.connect, nil, 80)
  listener:close()
end)

check.job("options of others are ignored, wrong ones are not", function()
  local listener, port = check.listen(check.echo)
  local options = {timeout = 500.5, async = true, nocheck = {}, secure = false, port = "x", onstatus = print}
  ok(ba.socket.connect("127.0.0.1", port, options)):close()
  ok(ba.socket.connect("127.0.0.1", port, nil)):close()
  raises("timeout", ba.socket.connect, "127.0.0.1", port, {timeout = "soon"})
  raises("intf", ba.socket.connect, "127.0.0.1", port, {intf = 5})
  listener:close()
end)

check.job("a connect that raised has not used up anything", function()
  local listener, port = check.listen(check.echo)
  check.in_cosocket(function(s)
    raises("timeout", ba.socket.connect, "127.0.0.1", port, {timeout = {}})
    eq(ba.socket.connect("127.0.0.1", port), s)
  end)
  listener:close()
end)

check.job("the local address", function()
  local seen
  local listener, port = check.listen(function(s) seen = s:peername() end)
  ok(ba.socket.connect("127.0.0.1", port, {intf = "127.0.0.2"})):close()
  wait(function() return seen end)
  eq(seen, "127.0.0.2")
  ok(ba.socket.connect("127.0.0.1", port, {intf = "lo"})):close()
  results({nil, "bind"}, ba.socket.connect("127.0.0.1", port, {intf = "nosuchinterface0"}))
  listener:close()
end)

check.job("localhost, by name", function()
  local listener, port = check.listen(check.echo)
  local sock = ok(ba.socket.connect("localhost", port))
  sock:write("x")
  eq(sock:read(), "x")
  sock:close()
  listener:close()
end)

check.job("IPv6", function()
  local listener = ba.socket.bind(0, {intf = "::1"})
  if not listener then return end -- this machine has none
  local accepted
  listener:event(function(s) accepted = s:accept() end, "r")
  local ip, port, v6 = listener:sockname()
  results({"::1", true}, ip, v6)
  local sock = ok(ba.socket.connect("::1", port))
  results({"::1", port, true}, sock:peername())
  wait(function() return accepted end)
  results({"::1", port, true}, accepted:sockname())
  sock:close()
  accepted:close()
  listener:close()
end)

check.job("a name, IPv6 only", function()
  local listener = ba.socket.bind(0, {intf = "::1"})
  if not listener then skip "no IPv6 here" end
  local _, port = listener:sockname()
  local sock = ok(ba.socket.connect("localhost", port, {ipv6 = true}))
  results({"::1", port, true}, sock:peername())
  sock:close()
  results({nil, "cannotconnect"}, ba.socket.connect("127.0.0.1", port, {ipv6 = true}))
  listener:close()
end)

check.both("a time that nobody gave is a second, for TCP and TLS together", function()
  local listener, port = check.listen(function(s) while s:read() do end end) -- it says nothing
  local start
  check.in_cosocket(function()
    local shark, begun = ba.create.sharkssl(), ba.clock()
    repeat start = ba.clock() until start - begun > 50 -- the time begins with the call
    results({nil, "timeout"}, ba.socket.connect("127.0.0.1", port, {shark = shark}))
  end)
  ok(ba.clock() - start >= 999)
  listener:close()
end)

check.job("an IPv4 and an IPv6 listener on one port", function()
  local a = ok(ba.socket.bind(0))
  local _, port = a:sockname()
  local b, err = ba.socket.bind(port, {ipv6 = true})
  if not b and err ~= "bind" then error(err) end
  if b then results({"::", port, true}, b:sockname()) b:close() end
  results({"0.0.0.0", port, false}, a:sockname())
  a:close()
end)

check.job("Unix sockets", function()
  local path = os.tmpname()
  os.remove(path)
  local address = "unix:" .. path
  local listener = ok(ba.socket.bind(address))
  listener:event(function(s)
    while true do
      local sock = s:accept()
      if not sock then break end
      sock:event(check.echo, "s")
    end
  end, "r")
  local sock = ok(ba.socket.connect(address))
  sock:write("over unix")
  eq(sock:read(), "over unix")
  eq((sock:peername()), address)
  sock:close()
  check.in_cosocket(function(s)
    eq(ba.socket.connect(address, {timeout = 1000}), s)
    s:write("again")
    eq(s:read(), "again")
  end)
  results({nil, "bind"}, ba.socket.bind(address))
  listener:close()
  wait(function()
    local s, err = ba.socket.connect(address)
    return not s and err == "cannotconnect"
  end)
  os.remove(path)
  results({nil, "bind"}, ba.socket.bind("unix:/no/such/folder/x"))
end)

check.job("a port in use", function()
  local a = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
  local _, port = a:sockname()
  results({nil, "bind", "EADDRINUSE"}, ba.socket.bind(port, {intf = "127.0.0.1"}))
  results({nil, "bind", "EADDRINUSE"}, ba.socket.bind(port, "127.0.0.1"))
  results({nil, "bind"}, ba.socket.bind(port))
  check.in_cosocket(function(s)
    results({nil, "bind"}, ba.socket.bind(port, {intf = "127.0.0.1"}))
    eq(ba.socket.bind(0, {intf = "127.0.0.1"}), s, "it may try another one")
  end)
  a:close()
  wait(function()
    local b = ba.socket.bind(port, {intf = "127.0.0.1"})
    if b then b:close() end
    return b
  end, "the port to be free again")
end)

check.job("a port whose connections the server has ended is free at once", function()
  local listener = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
  local _, port = listener:sockname()
  local accepted
  listener:event(function(s) accepted = s:accept() end)
  local sock = ok(ba.socket.connect("127.0.0.1", port))
  wait(function() return accepted end)
  accepted:close() -- first, so that its end stays in TIME_WAIT
  results({nil, "socketclosed"}, sock:read())
  sock:close()
  wait(function() return listener:state() == "terminated" end)
  local again
  wait(function() again = ba.socket.bind(port, {intf = "127.0.0.1"}) return again end, "the end of a listener")
  again:close()
end)

check.job("several listeners share a port when all ask for it", function()
  local a = ok(ba.socket.bind(0, {intf = "127.0.0.1", reuseport = true}))
  local _, port = a:sockname()
  local b = ok(ba.socket.bind(port, {intf = "127.0.0.1", reuseport = true}))
  results({nil, "bind"}, ba.socket.bind(port, {intf = "127.0.0.1"}))
  a:close()
  b:close()
end)

check.job("bind's arguments", function()
  for _, second in ipairs {"127.0.0.1", {intf = "127.0.0.1", backlog = 5, sshark = 1, onstatus = print}} do
    local s = ok(ba.socket.bind(0, second))
    eq((s:sockname()), "127.0.0.1")
    s:close()
  end
  ok(ba.socket.bind(0, nil)):close()
  ok(ba.socket.bind("0", 17)):close()
  raises("out of range", ba.socket.bind, 65536)
  raises("number expected", ba.socket.bind)
  raises("an address is the option intf", ba.socket.bind, "127.0.0.1:80")
  results({nil, "bind"}, ba.socket.bind(0, {intf = "nosuchinterface0"}))
  results({nil, "bind"}, ba.socket.bind(0, {intf = "192.0.2.1"}))
end)

check.job("accept ends with nil when somebody closes the listener", function()
  local ended
  local listener = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
  listener:event(function(s)
    while true do
      local sock = s:accept()
      if not sock then break end
    end
    ended = true
  end, "r")
  results({"accept", true}, listener:state())
  listener:close()
  results({"terminated", false}, listener:state())
  eq(ended, nil, "resumed inside close")
  wait(function() return ended end)
  eq(listener:close(), true)
end)

check.job("accept in a loop gets every connection, in order, extra argument or not", function()
  local seen = {}
  local listener = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
  local _, port = listener:sockname()
  listener:event(function(s)
    while true do
      local s = s:accept(s) -- as the documents write it
      if not s then break end
      seen[#seen + 1] = s:read()
      s:close()
    end
  end)
  for i = 1, 50 do
    local sock = ok(ba.socket.connect("127.0.0.1", port))
    sock:write(i)
    eq(sock:read(), nil)
    sock:close()
  end
  for i = 1, 50 do eq(seen[i], tostring(i)) end
  listener:close()
end)

check.job("connections that come before anybody accepts are kept", function()
  local listener = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
  local _, port = listener:sockname()
  local socks = {}
  for i = 1, 20 do
    socks[i] = ok(ba.socket.connect("127.0.0.1", port))
    socks[i]:write("x")
  end
  listener:event(function(s)
    while true do
      local sock = s:accept()
      if not sock then break end
      sock:event(check.echo, "s")
    end
  end, "r")
  for i = 1, 20 do
    eq(socks[i]:read(), "x")
    socks[i]:close()
  end
  listener:close()
end)

check.job("accept only in the listener's own coroutine", function()
  local listener = check.listen()
  raises("accept", listener.accept, listener)
  listener:close()
  local a, b = check.pair()
  raises("listen", a.accept, a)
  a:close()
  b:close()
  local unbound = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
  raises("accept", unbound.accept, unbound)
  raises("read", unbound.read, unbound)
  results({nil, n = 1}, unbound:write("x"))
  unbound:close()
end)

check.job("a handler's error does not end the listener; the listener's own does", function()
  local listener, port = check.listen(function() error "expected in the log: at once" end)
  for _ = 1, 3 do
    local sock = ok(ba.socket.connect("127.0.0.1", port))
    results({nil, "socketclosed"}, sock:read())
    sock:close()
  end
  listener:close()
  local broken = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
  broken:event(function(s)
    s:accept()
    error "expected in the log: listener"
  end, "r")
  local sock = ok(ba.socket.connect("127.0.0.1", select(2, broken:sockname())))
  wait(function() return broken:state() == "terminated" end)
  sock:close()
end)

check.job("1,000 connections at a time", function()
  local listener, port = check.listen(check.echo)
  local n = 0
  for i = 1, 1000 do
    ba.socket.event(function(s)
      ok(ba.socket.connect("127.0.0.1", port, {timeout = 50000}))
      s:write(i)
      if check.read(s, #tostring(i)) == tostring(i) then n = n + 1 end
    end)
  end
  wait(function() return n == 1000 end)
  listener:close()
end)

check.job("toip", function()
  eq(ba.socket.toip("127.0.0.1"), "127.0.0.1")
  eq(ba.socket.toip("::1"), "::1")
  eq(ba.socket.toip("localhost"), "127.0.0.1")
  results({nil, "cannotresolve"}, ba.socket.toip("no such host"))
  raises("string expected", ba.socket.toip)
  check.in_cosocket(function() eq(ba.socket.toip("localhost"), "127.0.0.1") end)
end)

-- Options that are asked of functions: what they give is kept, and what they do is noticed.
check.job("options that a function makes", function()
  local listener, port = check.listen(check.echo)
  local n = 0
  local op = setmetatable({}, {__index = function(_, name)
    n = n + 1
    return name == "host" and ("h"):rep(100) .. "." .. n or nil
  end})
  local sock = ok(check.with_finalizer(function() end, ba.socket.connect, "127.0.0.1", port, op))
  sock:close()
  listener:close()
end)

check.job("options whose function closes the socket", function()
  local listener, port = check.listen(check.echo)
  local function closing(sock, field, nth)
    local n = 0
    return setmetatable({}, {__index = function(_, name)
      n = n + (name == field and 1 or 0)
      if n == nth then sock:close() end
    end})
  end
  local got
  ba.socket.event(function(s) got = table.pack(ba.socket.connect("127.0.0.1", port, closing(s, "timeout", 2))) end)
  check.wait(function() return got end)
  results({nil, "closed"}, got[1], got[2])
  local a, b = check.pair()
  results({nil, "closed"}, ba.socket.relay(a, b, closing(a, "text", 1)))
  b:close()
  a, b = check.pair()
  results({nil, "closed"}, a:upgrade(ba.create.sharkssl(), closing(a, "trusted", 1)))
  b:close()
  listener:close()
end)
