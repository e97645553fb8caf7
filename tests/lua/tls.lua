-- TLS on sockets (ba-api B.1, B.3, C.3): connect, bind, upgrade and what was agreed on
local check = require "check"
local tls = require "pki"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait

local any = tls.server() -- localhost, 127.0.0.1
local client = tls.client()

local function connect(port, options)
  local op = {shark = client, timeout = 50000}
  for k, v in pairs(options or {}) do op[k] = v end
  return ba.socket.connect("127.0.0.1", port, op)
end

check.both("echo", function()
  local listener, port = check.listen(check.echo, {shark = any})
  local sock = ok(connect(port))
  local data = check.pattern(300000)
  ba.thread.run(function() sock:write(data) end)
  local got = check.read(sock, #data)
  eq(got, data)
  results({true}, sock:trusted())
  results({nil, "cert"}, sock:trusted("other.test"))
  local suite, version = sock:cipher()
  eq(suite, "AES_128_GCM_SHA256")
  eq(version, "TLSv1.3")
  sock:close()
  listener:close()
end)

check.job("in each mode, and blocking", function()
  local listener, port = check.listen(nil, {shark = any})
  local accepted = ba.socket.bind(0, {intf = "127.0.0.1", shark = any})
  local _, p = accepted:sockname()
  local modes, heard = {"r", "s", "blocking"}, {}
  accepted:event(function(l)
    for i = 1, #modes do
      local sock = l:accept()
      local function serve(s)
        heard[i] = s:read()
        s:write("bye")
        s:close()
      end
      if modes[i] == "blocking" then ba.thread.run(function() serve(sock) end) else sock:event(serve, modes[i]) end
    end
  end)
  for i = 1, #modes do
    local sock = ok(connect(p))
    sock:write("hello " .. i)
    eq(check.read(sock, 100), "bye")
    eq(heard[i], "hello " .. i)
    sock:close()
  end
  accepted:close()
  listener:close()
end)

check.job("a connect in a cosocket is its socket", function()
  local listener, port = check.listen(check.echo, {shark = any})
  local result
  local sock = ba.socket.event(function(s)
    local got = ok(connect(port))
    eq(got, s)
    got:write("x")
    result = got:read()
  end)
  results({"connect", false}, sock:state())
  eq(wait(function() return result end), "x")
  listener:close()
end)

check.job("accept does not wait for the handshake", function()
  local listener = ba.socket.bind(0, {intf = "127.0.0.1", shark = any})
  local _, port = listener:sockname()
  local sock, read
  listener:event(function(l) sock = l:accept() end)
  local peer = ok(ba.socket.connect("127.0.0.1", port)) -- says nothing
  wait(function() return sock end)
  sock:event(function(s) read = table.pack(s:read(50)) end, "s")
  wait(function() return read end)
  results({nil, "timeout"}, table.unpack(read, 1, read.n))
  peer:close()
  listener:close()
end)

check.job("a handshake has a deadline", function()
  local listener = ba.socket.bind(0, {intf = "127.0.0.1", shark = tls.server {timeout = 50}})
  local _, port = listener:sockname()
  local read
  listener:event(function(l) l:accept():event(function(s) read = table.pack(s:read()) end, "s") end)
  local peer = ok(ba.socket.connect("127.0.0.1", port))
  peer:write("\22\3\1\2\0\1")
  wait(function() return read end)
  results({nil, "sslhandshake"}, table.unpack(read, 1, read.n))
  peer:close()
  listener:close()
end)

check.both("a peer that does not speak TLS", function()
  local listener, port = check.listen(function(s) s:write("SSH-2.0-something\r\n") s:read() end)
  results({nil, "sslhandshake"}, check.in_job(connect, port))
  listener:close()
  listener, port = check.listen(function(s) while s:read() do end end)
  results({nil, "timeout"}, check.in_job(connect, port, {timeout = 50}))
  listener:close()
  listener, port = check.listen(function(s) s:close() end)
  local sock, err = check.in_job(connect, port)
  eq(sock, nil)
  ok(err == "sslhandshake" or err == "cannotconnect", err)
  listener:close()
end)

check.job("a connect that failed may be tried again", function()
  local bad, bad_port = check.listen(function(s) s:write("no TLS here") s:read() end)
  local good, port = check.listen(check.echo, {shark = any})
  local result
  ba.socket.event(function(s)
    results({nil, "sslhandshake"}, connect(bad_port))
    eq(connect(port), s)
    s:write("again")
    result = s:read()
  end)
  eq(wait(function() return result end), "again")
  bad:close()
  good:close()
end)

check.job("whom to trust", function()
  local other = tls.pem(nil, nil, {commonname = "Other CA"})
  local cases = {
    {tls.localhost, true},
    {tls.pem("localhost", tls.ca), nil, "cert"},
    {tls.pem("127.0.0.1", tls.ca), nil, "cert"}, -- an address is no name
    {tls.pem("IP:127.0.0.1", other), nil, "cn"},
    {tls.pem("x.test", other), nil, "none"},
    {tls.pem("IP:127.0.0.1", tls.ca, {from = -3, to = -1}), nil, "certcn"},
    {tls.pem("x.test", tls.ca, {from = -3, to = -1}), nil, "none"},
  }
  for i, case in ipairs(cases) do
    local listener, port = check.listen(check.echo, {shark = tls.server(nil, case[1])})
    local sock = ok(connect(port))
    results({n = #case - 1 + (case[2] == nil and 0 or 0), case[2], case[3]}, sock:trusted())
    sock:close()
    local strict, err = connect(port, {trusted = true})
    if case[2] then
      ok(strict, err):close()
    else
      eq(err, "sslnottrusted", i)
    end
    listener:close()
  end
end)

check.job("without a store any peer will do", function()
  local listener, port = check.listen(check.echo, {shark = any})
  local sock = ok(connect(port, {shark = ba.create.sharkssl()}))
  results({nil, "cn"}, sock:trusted())
  results({nil, "none"}, sock:trusted("x.test"))
  local plain, plain_port = check.listen(check.echo)
  local p = ok(ba.socket.connect("127.0.0.1", plain_port))
  results({nil, "none"}, p:trusted())
  eq(p:certificate(), nil)
  eq(p:cipher(), nil)
  eq(p:isresumed(), false)
  eq(p:alpn(), nil)
  eq(p:sni(), nil)
  p:maxsize(1000)
  p:close()
  sock:close()
  plain:close()
  listener:close()
end)

check.job("the chain of the peer", function()
  local listener, port = check.listen(check.echo, {shark = any})
  local sock = ok(connect(port))
  local chain, valid = sock:certificate()
  eq(#chain, 1)
  eq(chain[1].issuer.commonname, "Test CA")
  eq(valid, true)
  sock:close()
  listener:close()
end)

check.job("the name for SNI and check", function()
  local name
  local listener, port = check.listen(function(s) name = s:sni() or "none" check.echo(s) end, {shark = any})
  local sock = ok(connect(port, {host = "localhost", trusted = true}))
  eq(wait(function() return name end), "localhost")
  results({true}, sock:trusted())
  sock:close()
  name = nil
  sock = ok(connect(port))
  eq(wait(function() return name end), "none")
  sock:close()
  listener:close()
end)

check.job("ALPN", function()
  local proto
  local listener, port = check.listen(function(s) proto = s:alpn() or "none" check.echo(s) end,
                                      {shark = tls.server {alpn = "h2,http/1.1"}})
  for _, case in ipairs {{"http/1.1", "http/1.1"}, {"http/1.1,h2", "h2"}, {nil, "none"}} do
    proto = nil
    local sock = ok(connect(port, {alpn = case[1]}))
    eq(sock:alpn() or "none", case[2])
    eq(wait(function() return proto end), case[2])
    sock:close()
  end
  results({nil, "sslalertrecv"}, connect(port, {alpn = "mqtt"}))
  raises("alpn", tls.client, {alpn = "a,,b"})
  listener:close()
end)

check.job("sessions are resumed", function()
  local listener, port = check.listen(check.echo, {shark = any})
  for _, version in ipairs {"1.2", "1.3"} do
    local c = tls.client {maxversion = version}
    for i = 1, 3 do
      local sock = ok(connect(port, {shark = c}))
      sock:write("x") -- tickets of TLS 1.3 come with the first data
      sock:read()
      eq(sock:isresumed(), i > 1, version)
      results({true}, sock:trusted())
      eq(select(2, sock:cipher()), "TLSv" .. version)
      sock:close()
    end
    local sock = ok(connect(port, {shark = tls.client {tickets = false, maxversion = version}}))
    eq(sock:isresumed(), false)
    sock:close()
  end
  listener:close()
end)

check.job("client certificates", function()
  local mine = tls.sharkcert(tls.pem("client.test", tls.ca, {type = "SSL_CLIENT"}))
  local foreign = tls.sharkcert(tls.pem("client.test", tls.pem(nil, nil), {type = "SSL_CLIENT"}))
  for _, version in ipairs {"1.2", "1.3"} do
    for _, case in ipairs {{"required", mine, true}, {"required", nil, false}, {"required", foreign, false},
                           {"optional", mine, true}, {"optional", nil, true}, {"optional", foreign, false},
                           {nil, nil, false}, {"no", nil, true}} do
      local seen
      local listener, port = check.listen(function(s)
        local data, err = s:read()
        local chain = s:certificate()
        seen = {data, err, chain and chain[1].san[1], s:trusted("client.test")}
        if data then s:write(data) end
      end, {shark = tls.server {store = tls.store(), clientcert = case[1], maxversion = version}})
      local c = tls.client()
      if case[2] then c:addcert(case[2]) end
      local sock, err = connect(port, {shark = c})
      if sock then
        sock:write("x")
        local data, why = sock:read()
        err = data and "ok" or why
      end
      eq(err, case[3] and "ok" or "sslalertrecv", version .. " " .. tostring(case[1]))
      if case[3] then eq(seen[4], case[2] == mine or nil) end
      listener:close()
    end
  end
end)

check.job("the orderly end and the cut", function()
  local listener, port = check.listen(function(s) s:write("all") s:close() end, {shark = any})
  local sock = ok(connect(port))
  local got, err = check.read(sock, 100)
  eq(got, "all")
  eq(err, "socketclosed")
  listener:close()
  -- a proxy in between that ends without the close_notify
  local inner, inner_port = check.listen(function(s) s:write("all of it") s:read() end, {shark = any})
  local cut, cut_port = check.listen(function(s)
    local up = check.in_job(ba.socket.connect, "127.0.0.1", inner_port)
    up:event(function(u) while true do local d = u:read() if not d or not s:write(d) then break end end end, "s")
    while true do
      local d = s:read()
      if not d or d:sub(-4) == "stop" then break end
      up:write(d)
    end
  end)
  sock = ok(connect(cut_port))
  eq(check.read(sock, 9), "all of it")
  cut:close()
  inner:close()
  sock:close()
end)

check.job("STARTTLS: upgrade with bytes already there", function()
  local seen
  local listener, port = check.listen(function(s)
    eq(s:read(), "STARTTLS\n")
    s:write("OK\n")
    ok(s:upgrade(any))
    seen = s:read()
    s:write("secret")
  end)
  local sock = ok(ba.socket.connect("localhost", port))
  sock:write("STARTTLS\n")
  eq(check.read(sock, 3), "OK\n")
  eq(sock:isresumed(), false)
  results({true}, sock:upgrade(client))
  results({true}, sock:trusted()) -- the name given to connect
  sock:write("x")
  eq(check.read(sock, 100), "secret")
  eq(seen, "x")
  sock:close()
  -- the client's hello arrives with what was read last: it waits in the input while the server looks away
  local hello
  local late, late_port = check.listen(function(s)
    hello = s:clienthello(5000)
    ok(s:upgrade(any))
    s:write("late")
  end)
  sock = ok(connect(late_port))
  eq(check.read(sock, 100), "late")
  ok(hello)
  late:close()
  listener:close()
end)

check.job("both ends listen for a moment before they speak, as the nodes of a cluster do", function()
  local heard = {}
  local function node(s, name)
    local data = s:read(20) -- may be too early: the handshake goes on
    s:write("I am the " .. name)
    heard[name] = data or s:read(30000)
  end
  local listener = ok(ba.socket.bind(0, {intf = "127.0.0.1", shark = any}))
  local _, port = listener:sockname()
  listener:event(function(l)
    for s in l.accept, l do s:event(node, "s", "server") end
  end, "r")
  ba.socket.event(function()
    local s = ok(ba.socket.connect("localhost", port, {shark = client}))
    ok(s:trusted())
    s:event(node, "s", "client") -- from inside: the end of this coroutine is not the socket's
  end)
  wait(function() return heard.client and heard.server end)
  eq(heard.client, "I am the server")
  eq(heard.server, "I am the client")
  listener:close()
end)

check.job("state during an upgrade", function()
  local a, b = check.pair()
  local done
  a:event(function(s) done = table.pack(s:upgrade(client, {timeout = 100})) end, "s")
  results({"upgrade", true}, a:state())
  wait(function() return done end)
  results({nil, "timeout"}, table.unpack(done, 1, done.n))
  b:close()
end)

check.job("TLS in TLS", function()
  local inner = tls.server(nil, tls.pem("inner.test", tls.ca))
  local listener, port = check.listen(function(s)
    s:read() -- CONNECT
    s:write("ok")
    ok(s:upgrade(inner))
    check.echo(s)
  end, {shark = any})
  local sock = ok(connect(port, {trusted = true}))
  sock:write("CONNECT")
  eq(check.read(sock, 2), "ok")
  ok(sock:upgrade(client, {host = "inner.test", trusted = true}))
  local data = check.pattern(100000)
  ba.thread.run(function() sock:write(data) end)
  eq(check.read(sock, #data), data)
  results({true}, sock:trusted())
  sock:close()
  listener:close()
end)

check.job("relay: TCP to TLS, TLS to TCP, TLS to TLS", function()
  local plain, plain_port = check.listen(check.echo)
  local secure, secure_port = check.listen(check.echo, {shark = any})
  for _, case in ipairs {{nil, secure_port, client}, {any, plain_port, nil}, {any, secure_port, client}} do
    local result
    local front, port = check.listen(function(s)
      local up = ok(check.in_job(ba.socket.connect, "127.0.0.1", case[2], {shark = case[3], timeout = 50000}))
      result = ok(ba.socket.relay(s, up))
    end, {shark = case[1]})
    local sock = ok(ba.socket.connect("127.0.0.1", port, {shark = case[1] and client, timeout = 50000}))
    local data = check.pattern(1000000)
    ba.thread.run(function() sock:write(data) end)
    eq(check.read(sock, #data), data)
    sock:close()
    wait(function() return result end)
    eq(result.reason, "eof")
    eq(result.a_to_b, #data)
    eq(result.b_to_a, #data)
    front:close()
  end
  plain:close()
  secure:close()
end)

check.job("a relay of a socket whose handshake has not begun", function()
  local plain, plain_port = check.listen(check.echo)
  local listener = ba.socket.bind(0, {intf = "127.0.0.1", shark = any})
  local _, port = listener:sockname()
  listener:event(function(l)
    local s = l:accept()
    local up = check.in_job(ba.socket.connect, "127.0.0.1", plain_port)
    ba.socket.relay(s, up, {detach = true})
  end)
  local sock = ok(connect(port))
  sock:write("through")
  eq(check.read(sock, 7), "through")
  sock:close()
  listener:close()
  plain:close()
end)

check.job("several certificates, chosen by name", function()
  local a, b = tls.pem("a.test", tls.ca), tls.pem("*.b.test", tls.ca, {key = "rsa"})
  local listener, port = check.listen(check.echo, {shark = tls.server(nil, a, b)})
  for host, name in pairs {["a.test"] = "a.test", ["x.b.test"] = "*.b.test", ["c.test"] = "a.test"} do
    local sock = ok(connect(port, {host = host}))
    eq(sock:certificate()[1].san[1], name, host)
    sock:close()
  end
  listener:close()
end)

check.job("a function chooses, and may wait", function()
  local a, b = tls.pem("a.test", tls.ca), tls.pem("b.test", tls.ca)
  local second = tls.server({maxversion = "1.2"}, b)
  local hellos = {}
  local shark = tls.server({choose = function(hello)
    hellos[#hellos + 1] = hello
    if hello.sni == "fail.test" then error("on purpose, for the test") end
    ba.sleep(5)
    if hello.sni == "cert.test" then return tls.sharkcert(b) end
    if hello.sni == "shark.test" then return second end
    if hello.sni == "refuse.test" then return false end
    if hello.sni == "wrong.test" then return "text" end
  end}, a)
  local listener, port = check.listen(check.echo, {shark = shark})
  for host, expected in pairs {["a.test"] = "a.test", ["cert.test"] = "b.test", ["shark.test"] = "b.test"} do
    local sock = ok(connect(port, {host = host, alpn = "h2,x"}))
    eq(sock:certificate()[1].san[1], expected, host)
    eq(select(2, sock:cipher()), host == "shark.test" and "TLSv1.2" or "TLSv1.3")
    sock:close()
  end
  eq(#hellos, 3)
  eq(table.concat(hellos[1].alpn, ","), "h2,x")
  eq(table.concat(hellos[1].versions, ","), "TLSv1.3,TLSv1.2")
  ok(connect(port, {host = "a.test", shark = tls.client {maxversion = "1.2"}})):close()
  eq(table.concat(hellos[4].versions, ","), "TLSv1.2")
  for _, host in ipairs {"refuse.test", "wrong.test", "fail.test"} do
    results({nil, "sslalertrecv"}, connect(port, {host = host}))
  end
  -- the client gives up while the function waits
  local gone = ba.socket.event(function() connect(port, {host = "cert.test"}) end)
  wait(function() return #hellos == 8 end)
  gone:close()
  ba.sleep(20)
  listener:close()
end)

check.job("many at once", function()
  local listener, port = check.listen(check.echo, {shark = any, backlog = 1000})
  local n, good = 200, 0
  for _ = 1, n do
    ba.socket.event(function(s)
      if not connect(port) then return end
      s:write("ping")
      if check.read(s, 4) == "ping" then good = good + 1 end
    end)
  end
  wait(function() return good == n end, "all of them")
  listener:close()
end)

check.job("what is written before the handshake is over arrives, also after close", function()
  local listener, port = check.listen(function(s) s:write("early ") s:write("bird") s:close() end, {shark = any})
  local sock = ok(connect(port))
  eq(check.read(sock, 100), "early bird")
  listener:close()
end)

check.job("records", function()
  local listener, port = check.listen(check.echo, {shark = any})
  local sock = ok(connect(port))
  sock:maxsize(600)
  local data = check.pattern(5000)
  sock:write(data)
  eq(check.read(sock, #data), data)
  sock:close()
  listener:close()
end)

check.job("wrong use", function()
  raises("client's", ba.socket.bind, 0, {shark = client})
  raises("server's", ba.socket.connect, "127.0.0.1", 1, {shark = any})
  raises("sharkssl", ba.socket.connect, "127.0.0.1", 1, {shark = {}})
  raises("addcert", ba.socket.bind, 0, {shark = ba.create.sharkssl(nil, {server = true})})
  local closed
  do
    local shark <close> = ba.create.sharkssl()
    closed = shark
  end
  raises("closed", ba.socket.connect, "127.0.0.1", 1, {shark = closed})
  raises("closed", closed.addcert, closed)
  raises("minversion", ba.create.sharkssl, nil, {minversion = "1.0"})
  raises("ciphers", ba.create.sharkssl, nil, {ciphers = "NONE"})
  raises("groups", ba.create.sharkssl, nil, {groups = "nothing"})
  raises("clientcert", ba.create.sharkssl, nil, {server = true, clientcert = "required"})
  raises("clientcert", ba.create.sharkssl, nil, {server = true, clientcert = "maybe"})
  raises("pins", ba.create.sharkssl, nil, {pins = {"12"}})
  raises("choose", ba.create.sharkssl, nil, {server = true, choose = 1})
  raises("certstore", ba.create.sharkssl, "text")
  raises("sharkcert", client.addcert, client, 1)
end)

check.job("pins", function()
  local listener, port = check.listen(check.echo, {shark = any})
  results({nil, "sslnottrusted"}, connect(port, {shark = ba.create.sharkssl(nil, {pins = {("00"):rep(32)}})}))
  listener:close()
end)

check.job("key log", function()
  local name = os.tmpname()
  local listener, port = check.listen(check.echo, {shark = any})
  ok(connect(port, {shark = tls.client {keylog = name}})):close()
  local f = _G.io.open(name)
  ok(f:read("a"):find("CLIENT_TRAFFIC_SECRET_0 ", 1, true))
  f:close()
  os.remove(name)
  results({nil, "ioerror", "ENOENT"}, ba.create.sharkssl(nil, {keylog = "/nowhere/at all"}))
  listener:close()
end)

-- A record cannot be cut, so the first text is taken whole; what comes next goes by queuelen.
check.job("the queue of a peer that does not read is bounded within one slice", function()
  local accepted
  local listener = ba.socket.bind(0, {intf = "127.0.0.1", shark = tls.server()})
  local _, port = listener:sockname()
  listener:event(function(s) accepted = s:accept() end, "r")
  local sock = check.ok(ba.socket.connect("127.0.0.1", port, {shark = tls.client()}))
  check.wait(function() return accepted end, "accept")
  sock:queuelen(16384)
  sock:event(function(s) s:read() end, "s")
  local block, blocks, sent, queued = ("x"):rep(65536), 0, true, nil
  while sent and blocks < 300 do
    sent, queued = sock:write(block)
    blocks = blocks + 1
  end
  check.eq(sent, nil)
  check.ok(math.type(queued) == "integer" and queued <= 16384 + 2 * #block, queued)
  sock:close()
  accepted:close()
  listener:close()
end)
