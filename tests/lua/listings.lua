-- The programs of both editions of the documents (ba-api section D), only host, port and file changed.
local check = require "check"
local eq, ok, results, wait = check.eq, check.ok, check.results, check.wait

-- What the listings trace and print, instead of the log.
local trace, traced, forget = check.recorder()
local print = trace

-- ---- example 1: asking for the time, in a page (here a job) ----

local EPOCH = 2208988800 -- 1970 in seconds since 1900
local MOMENT = 1700000000

check.job("example 1, old: TIME over TCP", function()
  local function page(host, port, ms)
    forget()
    local s, err = ba.socket.connect(host, port)
    if s then
      local d
      d, err = s:read(ms)
      if d and #d == 4 then
        print(os.date("!%F %T", ba.socket.n2h(4, d) - EPOCH))
      end
      s:close()
    end
    if err then print(err) end
    return table.concat(traced, "|")
  end
  local listener, port = check.listen(function(s) s:write(ba.socket.h2n(4, MOMENT + EPOCH)) end)
  eq(page("127.0.0.1", port, 5000), "2023-11-14 22:13:20")
  listener:close()
  local mute, mute_port = check.listen(function(s) s:read() end)
  eq(page("127.0.0.1", mute_port, 30), "timeout")
  mute:close()
  eq(page("127.0.0.1", check.dead_port(), 5000), "cannotconnect")
end)

check.job("example 1, new: NTP over UDP, as a function and inline", function()
  local asked, answer = {}, nil
  local server = ba.socket.event(function(s)
    ok(ba.socket.udpcon({port = 0, intf = "127.0.0.1"}))
    while true do
      local data, ip, port = s:read(true)
      if not data then break end
      asked[#asked + 1] = data
      if answer then s:sendto(answer, ip, port) end
    end
  end)
  wait(function() return server:sockname() end)
  local _, port = server:sockname()

  local function printTime(host, port, ms)
    local s, err = ba.socket.udpcon(host, port)
    if s then
      s:write("\27" .. string.rep("\0", 47))
      local d
      d, err = s:read(ms)
      if d then
        if #d == 48 then
          print(os.date("!%F %T", ba.socket.n2h(4, d, 41) - EPOCH))
        else
          print("Invalid response")
        end
      else
        print(err)
      end
      s:close()
    else
      print("Cannot connect:", err)
    end
  end

  forget()
  answer = string.rep("\0", 40) .. ba.socket.h2n(4, MOMENT + EPOCH) .. string.rep("\0", 4)
  printTime("127.0.0.1", port, 5000)
  answer = "short"
  printTime("127.0.0.1", port, 5000)
  answer = nil
  printTime("127.0.0.1", port, 30)
  printTime("no such host", port, 5000)
  results({"2023-11-14 22:13:20", "Invalid response", "timeout", "Cannot connect:\tcannotresolve"}, table.unpack(traced))
  eq(#asked, 3)
  for _, d in ipairs(asked) do eq(#d, 48) end

  forget() -- inline, its global free of any function
  answer = string.rep("\0", 40) .. ba.socket.h2n(4, MOMENT + EPOCH) .. string.rep("\0", 4)
  local s <close> = ok(ba.socket.udpcon("127.0.0.1", port))
  s:write("\27" .. string.rep("\0", 47))
  local d = s:read(5000)
  print(os.date("!%F %T", ba.socket.n2h(4, d, 41) - EPOCH))
  eq(traced[1], "2023-11-14 22:13:20")
  server:close()
end)

-- ---- example 4: an asynchronous socket that traces what comes ----

check.job("example 4", function()
  forget()
  local peer
  local listener, port = check.listen(function(s) peer = s s:disable() end)
  local address = "127.0.0.1"

  local function sockCoroutine(sock)
    while true do
      local data = sock:read()
      if not data then break end
      trace(data)
    end
  end

  local sock, err = ba.socket.connect(address, port)
  if sock then
    sock:event(sockCoroutine)
  else
    trace("ba.socket.connect failed:", err)
  end

  wait(function() return peer end)
  for i = 1, 3 do
    peer:write("message " .. i)
    wait(function() return #table.concat(traced) == 9 * i end)
  end
  eq(table.concat(traced), "message 1message 2message 3")
  peer:close()
  wait(function() return sock:state() == "terminated" end)
  listener:close()

  forget()
  port = check.dead_port()
  sock, err = ba.socket.connect(address, port)
  if sock then
    sock:event(sockCoroutine)
  else
    trace("ba.socket.connect failed:", err)
  end
  eq(traced[1], "ba.socket.connect failed:\tcannotconnect")
end)

-- ---- example 6: a page that waits for its asynchronous socket ----

check.job("example 6", function()
  local function page(host, port, ms)
    forget()
    local t
    local function asyncRead(s)
      local d, err = s:read(ms)
      if d and #d == 4 then
        t = ba.socket.n2h(4, d) - EPOCH
      else
        print("Failed:", err)
        t = -1
      end
      s:close()
    end
    local s, err = ba.socket.connect(host, port)
    if s then
      s:event(asyncRead, "r")
      while not t do ba.sleep(10) end
      if t > 0 then print(os.date("!%F %T", t)) end
    else
      print(err)
    end
    return table.concat(traced, "|")
  end
  local listener, port = check.listen(function(s)
    ba.sleep(30) -- the page is in its sleep when the answer comes
    s:write(ba.socket.h2n(4, MOMENT + EPOCH))
  end)
  eq(page("127.0.0.1", port, 5000), "2023-11-14 22:13:20")
  listener:close()
  local mute, mute_port = check.listen(function(s) s:read() end)
  eq(page("127.0.0.1", mute_port, 30), "Failed:\ttimeout") -- the closure prints into the page
  mute:close()
end)

-- ---- examples 7, 8 and 9: echo servers ----

local function example7(sock)
  while true do
    local data = sock:read()
    if not data then break end
    sock:write(data)
  end
end

local function example8(sock)
  while true do
    local data = sock:read()
    if not data then break end
    ba.thread.run(function() sock:write(data) end)
  end
end

local function example9(sock)
  assert(ba.socket.getsock() == sock)
  assert(sock:owner())
  while true do
    local data = sock:read()
    if not data then break end
    sock:write(data)
  end
end

for name, how in pairs {["7"] = {example7}, ["8"] = {example8, "r"}, ["9"] = {example9, "s"}, ["9 old"] = {example7, "s"}} do
  check.job("example " .. name, function()
    local port
    local listener = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
    local _
    _, port = listener:sockname()
    listener:event(function(s)
      while true do
        local s = s:accept(s)
        if not s then break end
        s:event(table.unpack(how))
      end
    end)
    local data = check.pattern(10000000)
    local sock = ok(ba.socket.connect("127.0.0.1", port))
    local lazy = ok(ba.socket.connect("127.0.0.1", port)) -- one that never reads
    ba.thread.run(function() lazy:write(check.bulk("x", 5000000)) end)
    ba.thread.run(function() sock:write(data) end)
    local got = check.read(sock, #data)
    ok(got == data, "bytes differ")
    sock:close()
    lazy:close()
    listener:close()
  end)
end

-- ---- example 10: a cosocket that connects ----

check.both("example 10", function()
  forget()
  local replies = 0
  local listener, port = check.listen(function(s)
    while replies < 3 do
      local data = s:read()
      if not data then break end
      replies = replies + 1
      s:write(data)
    end
  end)

  local function sockCoroutine(sock, address, port)
    -- sock is not connected
    local socket, err = ba.socket.connect(address, port)
    if socket then -- If connect succeded
      while true do
        assert(socket == sock) -- we have one cosocket
        socket:write("hello")
        local data
        data, err = socket:read()
        if not data then break end
        trace(data)
      end
      if err then
        trace("Socket err:", err)
      end
    else
      trace("ba.socket.connect failed:", err)
    end
  end

  ba.socket.event(sockCoroutine, "127.0.0.1", port)
  wait(function() return traced[4] end)
  eq(table.concat(traced, "|"), "hello|hello|hello|Socket err:\tsocketclosed")
  forget()
  ba.socket.event(sockCoroutine, "no such host", port)
  eq(#traced, 0, "the caller of event was delayed")
  wait(function() return traced[1] end)
  eq(traced[1], "ba.socket.connect failed:\tcannotresolve")
  listener:close()
end)

-- ---- example 12a: one cosocket sends a file on another's socket ----

local function example12(name, throttle)
  check.both(name, function()
    forget()
    local file = os.tmpname()
    local content = check.pattern(throttle and 30000 or 5000000)
    local fp = ok(io.open(file, "wb"))
    fp:write(content)
    fp:close()
    local parts, finished = {}, false
    local listener, port = check.listen(function(s)
      local total = 0
      while total < #content do
        local data = s:read()
        if not data then break end
        parts[#parts + 1], total = data, total + #data
        if total % 7 == 0 then ba.sleep(1) end -- slow now and then
      end
      s:write("got it")
      finished = true
    end)
    local pieces = 0

    local function cosocketA(sockA, sockB) -- SockA not connected
      local fp = io:open(file)
      while true do
        local data = fp:read()
        if not data then break end -- EOF
        sockB:write(data)
        pieces = pieces + 1
        if throttle then sockA:read(20) end -- Enable for send throttling
      end
      fp:close()
    end

    local function cosocketB(sockB, address, port)
      ba.socket.connect(address, port) -- Returns sockB or nil
      ba.socket.event(cosocketA, sockB)
      while true do
        local data = sockB:read()
        if not data then break end
        print(data)
      end
    end

    local start = ba.clock()
    ba.socket.event(cosocketB, "127.0.0.1", port)
    wait(function() return finished and traced[1] end)
    ok(table.concat(parts) == content, "the file arrived damaged")
    eq(traced[1], "got it")
    if throttle then
      ok(pieces > 1)
      ok(ba.clock() - start >= 20 * (pieces - 1), "not throttled")
    end
    listener:close()
    os.remove(file)
  end)
end

example12("example 12a")
example12("example 12a with throttle", true)

-- ---- examples 12b and 12c: a page fills the queue of a server that reads once ----

check.job("examples 12b and 12c", function()
  forget()
  local held = {} -- the documents' server would be collected at some time; here it stays

  local function rec(sock)
    held[1] = sock
    sock:read()
    trace "received first message; now stop"
    sock:disable()
  end
  local function accept(s)
    while true do
      local s = s:accept(s)
      if not s then break end
      s:event(rec, "s")
    end
  end
  local s = ok(ba.socket.bind(0))
  local _, port = s:sockname()
  s:event(accept)

  local sock = ba.socket.connect("localhost", port)
  -- Receive cosocket required, but not used
  sock:event(function(sock) trace(sock:read()) end, "s")
  while true do
    local ok, status = sock:write "hello"
    if not ok then
      if "number" == type(status) then
        -- status is now number of bytes in queue
        print("Socket queue full", status, sock:queuelen())
      else
        print("Socket error", status)
        assert("string" == type(status))
      end
      break -- exit
    end
  end
  ok(traced[1]:find "^Socket queue full\t%d+\t16384$", traced[1])
  wait(function() return traced[2] end)
  eq(traced[2], "received first message; now stop")
  sock:close()
  held[1]:close()
  s:close()
end)

-- As the documents have it, nobody keeps the disabled socket: it goes when the collector runs.
check.job("example 12c: the socket vanishes", function()
  forget()
  local s = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
  local _, port = s:sockname()
  s:event(function(s)
    while true do
      local s = s:accept(s)
      if not s then break end
      s:event(function(sock)
        sock:read()
        trace "received first message; now stop"
        sock:disable()
      end, "s")
    end
  end)
  local sock = ok(ba.socket.connect("127.0.0.1", port))
  sock:write "hello"
  wait(function() return traced[1] end)
  ba.sleep(10)
  collectgarbage()
  collectgarbage()
  eq(sock:read(10000), nil)
  eq(#traced, 1)
  sock:close()
  s:close()
end)

-- ---- example 13: the proxies ----

-- Runs `count` clients at a time through the proxy at a port against an echo server.
local function drive(port, count, size)
  local data, n, bad = check.pattern(size), 0, nil
  for _ = 1, count do
    ba.socket.event(function(s)
      local good, err = ba.socket.connect("127.0.0.1", port, {timeout = 50000})
      if good then
        ba.socket.event(function() s:write(data) end)
        local got
        got, err = check.read(s, #data)
        if got ~= data then bad = "bytes differ: " .. #got .. " " .. tostring(err) end
      else
        bad = err
      end
      n = n + 1
    end)
  end
  wait(function() return n == count end, "the clients")
  eq(bad, nil)
end

local function webProxy(source, sink)
  while true do
    local data = source:read()
    if not data or not sink:write(data) then break end
  end
end

check.both("example 13, old", function()
  local listener, upstream = check.listen(check.echo)
  local serverName = "127.0.0.1"

  local function webProxyClient(client)
    local server = ba.socket.connect(serverName, upstream)
    if server then
      client:enable(server)
      webProxy(server, client)
    else
      client:enable()
    end
    client:close()
  end
  local function webProxyServer(client)
    ba.socket.event(function() webProxyClient(client) end)
    local server = client:disable()
    if server then
      webProxy(client, server)
      server:close()
    end
  end
  local function accept(s)
    while true do
      local s = s:accept(s)
      if not s then break end
      s:event(webProxyServer, "s")
    end
  end
  local s = check.in_job(ba.socket.bind, 0)
  local _, port = s:sockname()
  s:event(accept, "r")

  drive(port, 1, 5000000)
  drive(port, 100, 50000)
  listener:close()
  s:close()
end)

local function new_proxy(serverName, upstream)
  local function webProxyClient(client, server)
    -- ba.socket.connect returns socket or nil if it fails
    if ba.socket.connect(serverName, upstream) ~= client then return end
    server:enable(client)
    webProxy(client, server)
    server:close()
  end
  local function webProxyServer(server)
    ba.socket.event(webProxyClient, server)
    local client = server:disable()
    if not client then return end
    webProxy(server, client)
    client:close()
  end
  local function accept(s)
    while true do
      local s = s:accept(s)
      if not s then break end
      s:event(webProxyServer, "s")
    end
  end
  local s = check.in_job(ba.socket.bind, 0)
  local _, port = s:sockname()
  s:event(accept)
  return s, port
end

check.both("example 13, new", function()
  local listener, upstream = check.listen(check.echo)
  local s, port = new_proxy("127.0.0.1", upstream)
  drive(port, 1, 5000000)
  drive(port, 100, 50000)
  listener:close()
  s:close()
end)

check.both("example 13, new: both sides close when one does", function()
  local upstream_closed
  local listener, upstream = check.listen(function(s)
    s:write("welcome")
    local data, err = s:read()
    upstream_closed = data or err
  end)
  local s, port = new_proxy("127.0.0.1", upstream)
  check.in_cosocket(function(sock)
    ok(ba.socket.connect("127.0.0.1", port))
    eq(sock:read(), "welcome")
  end) -- its return closes the client's end
  wait(function() return upstream_closed end)
  eq(upstream_closed, "socketclosed")
  listener:close()
  s:close()
end)

check.both("example 13, new: a failed connect closes the accepted side in bounded time", function()
  local s, port = new_proxy("127.0.0.1", check.dead_port())
  local got
  ba.socket.event(function(sock)
    ok(ba.socket.connect("127.0.0.1", port))
    got = table.pack(sock:read())
  end)
  -- The collector does it, once nothing happens any more (or soon after).
  local start = ba.clock()
  while not got and ba.clock() - start < 12000 do ba.sleep(3000) end
  ok(got, "it stays open")
  eq(got[1], nil)
  s:close()
end)

-- ---- example 13b: a queue for sends ----

check.both("example 13b", function()
  local got = {}
  local listener, port = check.listen(function(s)
    while true do
      local data = s:read()
      if not data then break end
      got[#got + 1] = data
    end
  end)
  local target = ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    s:read()
  end)
  wait(function() return target:state() == "read" end)

  local queue, head, tail, max = {}, 1, 0, 100
  local senderSock = ba.socket.event(function(sock)
    while true do
      if head > tail then
        if sock:disable() == "stop" then break end
        assert(head <= tail)
      end
      local m = queue[head]
      queue[head] = nil
      head = head + 1
      if not m.sock:write(m.data) then m.sock:close() end
    end
  end)
  local function queueMsg(sock, data)
    if tail - head + 1 >= max then return nil, "queue full" end
    tail = tail + 1
    queue[tail] = {sock = sock, data = data}
    senderSock:enable()
    return true
  end

  local expected = {}
  local function send(i)
    local m = ("message %03d;"):format(i)
    expected[i] = m
    ok(queueMsg(target, m))
  end
  for i = 1, 300 do send(i) end
  local n = 300 -- from a timer, and from a job
  ba.timer(function()
    n = n + 1
    send(n)
    return n < 310
  end):set(1, true)
  wait(function() return n == 310 end)
  ba.thread.run(function() for i = 311, 320 do send(i) end end)
  wait(function() return expected[320] end)
  local all = table.concat(expected)
  wait(function() return #table.concat(got) == #all end)
  eq(table.concat(got), all)

  -- A target that takes nothing: the queue fills, the 101st unread message is refused.
  local full = ba.socket.event(function(s)
    s:read(60000)
  end)
  local deaf, deaf_port = check.listen(function(s) got.deaf = s s:disable() end)
  local stuck = ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", deaf_port))
    s:read()
  end)
  wait(function() return got.deaf and stuck:state() == "read" end)
  queueMsg(stuck, check.bulk("x", 50000000)) -- holds up the sender
  for _ = 1, max do ok(queueMsg(target, "y")) end
  results({nil, "queue full"}, queueMsg(target, "z"))
  stuck:close()
  wait(function() return head > tail end)
  senderSock:enable("stop")
  for _, s in ipairs {target, full, listener, deaf, got.deaf} do s:close() end
end)
