-- UDP (ba-api B.1 udpcon, B.3 read and sendto, B.4, B.5): every form and mode, with real sockets
local check = require "check"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait

-- A bound socket that no coroutine owns, and its port.
local function bound(options)
  local s = ok(check.in_job(ba.socket.udpcon, 0, options or {intf = "127.0.0.1"}))
  local _, port = s:sockname()
  return s, port
end

local function connected(port, options) return ok(check.in_job(ba.socket.udpcon, "127.0.0.1", port, options)) end

-- A port of this machine that nobody has bound.
local function dead_port()
  local s, port = bound()
  s:close()
  ba.sleep(0) -- the kernel hears of it at the end of the turn
  return port
end

-- Runs f(sock, ...) in each of the three modes on a socket that open() makes outside, and waits for its end.
local function modes(name, open, f)
  for mode, how in pairs {blocking = false, async = "r", cosocket = "s"} do
    check.job(name .. ", " .. mode, function()
      local socks = table.pack(open())
      local over
      local function body(...) over = table.pack(xpcall(f, debug.traceback, ...)) end
      if how then
        local sock = table.remove(socks, 1)
        eq(sock:event(body, how, table.unpack(socks)), sock)
        wait(function() return over end)
        ok(over[1], over[2])
        eq(sock:state(), "terminated") -- the end of its coroutine closes it
      else
        body(table.unpack(socks))
        ok(over[1], over[2])
        socks[1]:close()
      end
      for i = 2, #socks do if type(socks[i]) == "userdata" then socks[i]:close() end end
    end)
  end
end

-- ---- reading ----

modes("read with and without the sender", function()
  local s, port = bound()
  return s, connected(port)
end, function(s, peer)
  local ip, port = peer:sockname()
  eq(peer:write "one", true)
  results({"one", ip, port}, s:read(true))
  peer:write "two"
  results({"two", ip, port}, s:read(1000, true))
  peer:write "three"
  local got = table.pack(s:read())
  eq(got.n, 1)
  eq(got[1], "three")
  peer:write "four"
  got = table.pack(s:read(1000, false))
  eq(got.n, 1)
  eq(got[1], "four")
  eq(ip, "127.0.0.1")
  eq(math.type(port), "integer")
end)

modes("bounds are kept, empty and largest ones too", function()
  local s, port = bound()
  return s, connected(port)
end, function(s, peer)
  local ip, port = peer:sockname()
  local _, to = s:sockname()
  local largest = check.pattern(65507)
  for _, data in ipairs {"a", "", "bc", largest, "", ("x"):rep(1472), "end"} do
    eq(peer:sendto(data, "127.0.0.1", to), true)
    local got, from_ip, from_port = s:read(5000, true)
    ok(got == data, "datagram differs")
    results({ip, port}, from_ip, from_port)
  end
  for i = 1, 20 do peer:write("n" .. i) end
  for i = 1, 20 do eq(s:read(5000), "n" .. i) end
end)

modes("time-outs", function() return (bound()) end, function(s)
  local before = ba.clock()
  results({nil, "timeout", n = 2}, s:read(30))
  ok(ba.clock() - before >= 30)
  results({nil, "timeout", n = 2}, s:read(0))
  results({nil, "timeout", n = 2}, s:read(0, true))
  local _, port = s:sockname()
  local peer = ok(check.in_job(ba.socket.udpcon))
  eq(peer:sendto("late", "127.0.0.1", port), true)
  wait(function()
    local data = s:read(0)
    return data and ok(data == "late")
  end)
  peer:close()
  raises("negative", s.read, s, -1)
end)

-- ---- connected sockets ----

modes("a connected socket hears its peer only", function()
  local peer, port = bound()
  return connected(port), peer, (bound())
end, function(s, peer, stranger)
  local _, my_port = s:sockname()
  local _, peer_port = peer:sockname()
  results({"127.0.0.1", peer_port, false}, s:peername())
  stranger:sendto("no", "127.0.0.1", my_port)
  eq(s:write "question", true)
  local data, ip, port = peer:read(5000, true)
  results({"question", "127.0.0.1", my_port}, data, ip, port)
  eq(peer:sendto("answer", ip, port), true)
  results({"answer", "127.0.0.1", peer_port}, s:read(5000, true))
  results({nil, "timeout"}, s:read(5))
end)

modes("write takes the parts that string.sub would", function()
  local peer, port = bound()
  return connected(port), peer
end, function(s, peer)
  s:write("abcdef", 2, 4)
  eq(peer:read(5000), "bcd")
  s:write("abcdef", -2)
  eq(peer:read(5000), "ef")
  s:write(12.5)
  eq(peer:read(5000), "12.5")
  s:write("text", true)
  eq(peer:read(5000), "text")
  eq(s:write "", false)
  eq(s:sendto "", true) -- without an address: to the peer
  eq(peer:read(5000), "")
end)

modes("a port that nobody has", function() return connected(dead_port()) end, function(s)
  for _ = 1, 3 do -- the socket stays as usable as it was
    eq(s:write "x", true)
    results({nil, "socketreadfailed", "ECONNREFUSED"}, s:read(5000))
    results({nil, "timeout"}, s:read(5))
  end
  local _, port = s:peername()
  local peer = ok(check.in_job(ba.socket.udpcon, port, {intf = "127.0.0.1"}))
  eq(s:write "there?", true)
  local _, ip, from = peer:read(5000, true)
  peer:sendto("yes", ip, from)
  eq(s:read(5000), "yes")
  peer:close()
end)

check.job("a port that nobody has, told to a writer", function()
  local s = connected(dead_port())
  eq(s:write "x", true)
  results({nil, "socketwritefailed", "ECONNREFUSED"}, s:write "x") -- nobody reads
  s:close()
end)

check.both("too large", function()
  local peer, port = bound()
  local s = connected(port)
  results({nil, "socketwritefailed", "EMSGSIZE"}, s:write(check.bulk("x", 65508)))
  results({nil, "socketwritefailed", "EMSGSIZE"}, s:sendto(check.bulk("x", 100000), "127.0.0.1", port))
  eq(s:write(check.bulk("x", 65507)), true)
  eq(#peer:read(5000), 65507)
  s:close()
  peer:close()
end)

-- ---- forms of udpcon ----

check.both("forms of udpcon", function()
  local udpcon = function(...) return check.in_job(ba.socket.udpcon, ...) end
  local peer, port = bound()
  local a = ok(udpcon()) -- neither bound nor connected
  results({nil, "invalidsocketcon"}, a:peername())
  results({nil, "invalidsocketcon"}, a:write "x")
  eq(a:sendto("from a", "127.0.0.1", port), true)
  eq(peer:read(5000), "from a")
  a:close()
  local free = dead_port()
  local b = ok(udpcon(free)) -- bound
  results({"0.0.0.0", free, false}, b:sockname())
  b:close()
  local c = ok(udpcon {port = free, intf = "127.0.0.2"})
  results({"127.0.0.2", free, false}, c:sockname())
  c:close()
  local d = ok(udpcon("127.0.0.1", port, {port = free, intf = "127.0.0.3"})) -- connected from an address
  d:write "from d"
  results({"from d", "127.0.0.3", free}, peer:read(5000, true))
  d:close()
  local e = ok(udpcon("127.0.0.1", tostring(port), {port = free}))
  e:write "from e"
  results({"from e", "127.0.0.1", free}, peer:read(5000, true))
  e:close()
  local f = ok(udpcon(free + 0.0, {intf = "lo"}))
  results({"127.0.0.1", free, false}, f:sockname())
  f:close()
  local g = ok(udpcon("localhost", port)) -- a name
  g:write "from g"
  eq(peer:read(5000), "from g")
  g:close()
  peer:close()
end)

check.both("IPv6", function()
  local udpcon = function(...) return check.in_job(ba.socket.udpcon, ...) end
  local peer = ok(udpcon(0, {ipv6 = true}))
  local ip, port, v6 = peer:sockname()
  results({"::", true}, ip, v6)
  local same = ok(udpcon(port)) -- the IPv4 port is another one
  same:close()
  local s = ok(udpcon("::1", port))
  s:write "six"
  local data, from, from_port = peer:read(5000, true)
  results({"six", "::1"}, data, from)
  eq(peer:sendto("back", from, from_port), true)
  results({"back", "::1", port}, s:read(5000, true))
  s:close()
  s = ok(udpcon {ipv6 = true})
  eq(s:sendto("again", "::1", port), true)
  eq(peer:read(5000), "again")
  results({nil, "socketwritefailed"}, s:sendto("x", "127.0.0.1", port))
  s:close()
  s = ok(udpcon {intf = "::1", port = 0})
  eq(s:sockname(), "::1")
  s:close()
  peer:close()
end)

check.both("errors of udpcon", function()
  local udpcon = function(...) return check.in_job(ba.socket.udpcon, ...) end
  local s, port = bound()
  results({nil, "bind", "EADDRINUSE"}, udpcon(port, {intf = "127.0.0.1"}))
  results({nil, "bind", "EADDRINUSE"}, udpcon(port))
  results({nil, "bind", "EADDRNOTAVAIL"}, udpcon(0, {intf = "192.0.2.1"}))
  results({nil, "bind"}, udpcon(0, {intf = "nosuchinterface"}))
  results({nil, "cannotresolve"}, udpcon("no such host", 9))
  results({nil, "cannotconnect", "EACCES"}, udpcon("127.255.255.255", 9))
  raises("port out of range", ba.socket.udpcon, 65536)
  raises("port out of range", ba.socket.udpcon, "127.0.0.1", -1)
  raises("number expected", ba.socket.udpcon, "127.0.0.1")
  raises("option 'intf': string expected", ba.socket.udpcon, {intf = 1})
  raises("option 'port'", ba.socket.udpcon, {port = 65536})
  raises("address or port expected", ba.socket.udpcon, true)
  raises("Unix socket", ba.socket.udpcon, "unix:/tmp/x", 1)
  s:close()
end)

check.both("errors of sendto", function()
  local s, port = bound()
  results({nil, "invalidparam"}, s:sendto("x", "localhost", port))
  results({nil, "invalidparam"}, s:sendto("x", "unix:/tmp/x", port))
  raises("string expected", s.sendto, s)
  raises("port out of range", s.sendto, s, "x", "127.0.0.1", 65536)
  raises("number expected", s.sendto, s, "x", "127.0.0.1")
  results({nil, "invalidsocketcon"}, s:sendto "x")
  s:close()
  results({nil, "closed"}, s:sendto("x", "127.0.0.1", port))
  results({nil, "closed"}, s:write "x")
  results({nil, "closed"}, s:read())
  local a, b = check.pair()
  results({nil, "incorrectuse"}, a:sendto("x", "127.0.0.1", 9))
  a:close()
  b:close()
end)

-- ---- cosockets ----

check.job("udpcon binds an unbound cosocket", function()
  local peer, port = bound()
  local over
  local sock = ba.socket.event(function(s)
    over = table.pack(pcall(function()
      eq(ba.socket.udpcon("127.0.0.1", port), s)
      results({nil, "incorrectuse"}, ba.socket.udpcon())
      results({nil, "incorrectuse"}, ba.socket.connect("127.0.0.1", port))
      results({nil, "incorrectuse"}, ba.socket.bind(0))
      eq(ba.socket.getsock(), s)
      eq(s:owner(), true)
      s:write "hello"
      eq(s:read(5000), "welcome")
    end))
  end)
  local data, ip, from = peer:read(5000, true)
  eq(data, "hello")
  peer:sendto("welcome", ip, from)
  wait(function() return over end)
  ok(over[1], over[2])
  results({"terminated", false}, sock:state())
  peer:close()
end)

check.job("a name in a cosocket, and one that does not exist first", function()
  local peer, port = bound()
  local got
  ba.socket.event(function(s)
    results({nil, "cannotresolve"}, ba.socket.udpcon("no such host", port))
    eq(ba.socket.udpcon("localhost", port, {intf = "127.0.0.1"}), s)
    s:write "by name"
  end)
  eq(peer:read(5000), "by name")
  peer:close()
end)

check.job("closed while its name is looked up", function()
  local got
  local s = ba.socket.event(function() got = table.pack(ba.socket.udpcon("no such host", 9)) end)
  results({"connect", false}, s:state())
  s:close()
  wait(function() return got end)
  results({nil, "closed"}, table.unpack(got))
end)

check.job("an unbound UDP cosocket is a timer and a sender", function()
  local peer, port = bound()
  local errs, sock = {}, nil
  sock = ba.socket.event(function(s)
    eq(ba.socket.udpcon(), s)
    while true do
      local data, err = s:read(10)
      errs[#errs + 1] = err
      if data or err ~= "timeout" then break end
      s:sendto("tick", "127.0.0.1", port)
    end
  end)
  results({"read", true}, sock:state())
  for _ = 1, 3 do eq(peer:read(5000), "tick") end
  sock:close()
  wait(function() return errs[#errs] == "closed" end)
  peer:close()
end)

check.job("only its own coroutine reads a cosocket", function()
  local s = bound()
  s:event(function() s:read() end, "s")
  raises("own coroutine", s.read, s)
  raises("listen", s.accept, s)
  s:close()
end)

check.job("disable and enable", function()
  local s, port = bound()
  local peer = connected(port)
  local got = {}
  s:event(function()
    got[1] = table.pack(s:disable())
    got[2] = s:read()
    got[3] = s:read()
  end, "s")
  results({"disabled", true}, s:state())
  peer:write "kept for later"
  s:enable(1, "two")
  results({1, "two"}, table.unpack(got[1]))
  wait(function() return got[2] end)
  eq(got[2], "kept for later")
  eq(s:disable(), true) -- from outside: data wakes it no more
  results({"disabled", true}, s:state())
  peer:write "also kept"
  ba.sleep(20)
  eq(got[3], nil)
  s:enable()
  wait(function() return got[3] end)
  eq(got[3], "also kept")
  peer:close()
end)

-- ---- what waiters see, and what it is ----

check.job("close wakes readers of every mode", function()
  local seen = {}
  local a, b, c = bound(), bound(), bound()
  ba.thread.run(function() seen[1] = table.pack(a:read()) end)
  b:event(function() seen[2] = table.pack(b:read()) end, "r")
  c:event(function() seen[3] = table.pack(c:disable()) end, "s")
  wait(function() return a:state() == "read" end)
  results({"read", true}, b:state())
  results({"disabled", true}, c:state())
  for _, s in ipairs {a, b, c} do s:close() results({"terminated", false}, s:state()) end
  wait(function() return seen[1] and seen[2] and seen[3] end)
  for i = 1, 3 do results({nil, "closed"}, table.unpack(seen[i])) end
end)

check.both("names, state, text", function()
  local peer, port = bound()
  local s = connected(port)
  results({"exec", true}, s:state())
  ok(tostring(s):find("127.0.0.1:" .. port, 1, true), tostring(s))
  eq(s:queuelen(), 16384)
  raises("listen", s.accept, s)
  local total = ba.socket.stat()
  s:close()
  eq(ba.socket.stat(), total - 1)
  results({nil, "invalidsocketcon"}, s:sockname())
  results({nil, "invalidsocketcon"}, s:peername())
  s = bound()
  local a, b = check.pair()
  raises("not connected", ba.socket.relay, s, a) -- datagrams are not a stream
  s:close()
  a:close()
  b:close()
  peer:close()
end)

check.job("a port is free again as soon as its socket is closed", function()
  local s, port = bound()
  ba.thread.run(function() s:read() end)
  wait(function() return s:state() == "read" end)
  for _ = 1, 5 do
    s:close()
    s = ok(ba.socket.udpcon(port, {intf = "127.0.0.1"}))
    local peer = connected(port)
    peer:write "hello"
    eq(s:read(5000), "hello")
    peer:close()
  end
  s:close()
end)

check.job("nobody refers to it", function()
  local port
  do
    local s
    s, port = bound()
    s = nil
  end
  collectgarbage()
  collectgarbage()
  local s = ok(ba.socket.udpcon(port, {intf = "127.0.0.1"}))
  s:close()
end)

-- ---- options ----

check.both("broadcast", function()
  local s, port = bound {intf = "0.0.0.0"}
  local sender = ok(check.in_job(ba.socket.udpcon))
  results({nil, "socketwritefailed", "EACCES"}, sender:sendto("x", "127.255.255.255", port))
  eq(sender:setoption("broadcast", true), true)
  eq(sender:sendto("to all", "127.255.255.255", port), true)
  eq(s:read(5000), "to all")
  eq(sender:setoption("broadcast", false), true)
  results({nil, "socketwritefailed", "EACCES"}, sender:sendto("x", "127.255.255.255", port))
  sender:close()
  s:close()
end)

check.both("multicast", function()
  local group = "239.77.77.77"
  local s, port = bound {intf = "0.0.0.0"}
  local sender = ok(check.in_job(ba.socket.udpcon, 0, {intf = "127.0.0.1"}))
  eq(s:setoption("ip-membership", true, group, "127.0.0.1"), true)
  eq(sender:sendto("to the group", group, port), true)
  eq(s:read(5000), "to the group")
  eq(s:setoption("ip-membership", false, group, "127.0.0.1"), true)
  results({nil, "failed", "EADDRNOTAVAIL"}, s:setoption("ip-membership", false, group, "127.0.0.1"))
  eq(s:setoption("ip-membership", true, group, "lo"), true)
  results({nil, "failed", "ENODEV"}, s:setoption("ip-membership", true, group, "nosuchinterface"))
  results({nil, "failed", "EINVAL"}, s:setoption("ip-membership", true, "10.0.0.1"))
  results({nil, "invalidparam"}, s:setoption("ip-membership", true, "name"))
  results({nil, "invalidparam"}, s:setoption("ip-membership", true, "ff02::7777"))
  raises("string expected", s.setoption, s, "ip-membership", true)
  sender:close()
  s:close()
  local six = bound {ipv6 = true}
  eq(six:setoption("ip-membership", true, "ff01::7777", "lo"), true)
  eq(six:setoption("ip-membership", false, "ff01::7777", "lo"), true)
  six:close()
end)

check.both("other options", function()
  local s = bound()
  eq(s:setoption("dontroute", true), true)
  eq(s:setoption("dontroute", false), true)
  results({nil, "invalidparam"}, s:setoption("tcp-nodelay", true))
  results({nil, "invalidparam"}, s:setoption("keepalive", true))
  results({nil, "invalidparam"}, s:setoption("no-such-option", 1))
  s:close()
  results({nil, "invalidsocketcon"}, s:setoption("broadcast", true))
  local a, b = check.pair()
  results({nil, "invalidparam"}, a:setoption("broadcast", true))
  a:close()
  b:close()
end)

-- ---- much of it ----

-- More than a socket keeps: the rest is dropped, what is kept is whole and in order, and it goes on.
check.job("a flood that nobody reads", function()
  local s, port = bound()
  local sender = connected(port)
  results({nil, "timeout"}, s:read(0)) -- receiving is on from here
  for i = 1, 5000 do
    sender:write(("%06d"):format(i) .. ("x"):rep(1000))
    if i % 100 == 0 then ba.sleep(0) end
  end
  ba.sleep(0)
  local count, last = 0, 0
  while true do
    local data = s:read(50)
    if not data then break end
    local i = tonumber(data:sub(1, 6))
    ok(i > last and #data == 1006, "order")
    count, last = count + 1, i
  end
  ok(count >= 50 and count < 5000, "kept " .. count)
  sender:write "after"
  eq(s:read(5000), "after")
  s:close()
  sender:close()
end)

check.job("a socket that always has something to read lets others run", function()
  local s, port = bound()
  local sender = connected(port)
  local over, others = false, 0
  ba.socket.event(function(c)
    while not over do c:read(0) others = others + 1 ba.sleep(0) end
  end)
  local echo = ba.socket.event(function(c)
    ba.socket.udpcon("127.0.0.1", port)
    for _ = 1, 500 do c:write "again" end
  end)
  for _ = 1, 500 do if not s:read(1000) then break end end
  over = true
  ok(others > 2, others)
  s:close()
  sender:close()
end)
