-- With a coroutine parked in each kind of call that waits, another connection is served. (Files: e2e/files; keys and
-- certificates, which the same threads make: cert.lua; a connect that nobody answers: model.)
local check = require "check"
local httpc = require "httpc"
local pki = require "pki"
local websocket = require "cosock.websocket"
local eq, ok, wait = check.eq, check.ok, check.wait

local closed = {} -- at the end, by which every call but the sleep returns

local function keep(sock)
  closed[#closed + 1] = sock
  return sock
end

local function pair()
  local a, b = check.pair()
  return keep(a), keep(b)
end

-- Each starts what has to wait and says how: parked(name) before, returned(name) after. Returns their number.
local function start(parked, returned)
  local n = 0
  local function job(name, f)
    n = n + 1
    ba.thread.run(function()
      parked(name)
      f()
      returned(name)
    end)
  end
  local function own(name, sock, mode, f)
    n = n + 1
    sock:event(function(s)
      parked(name)
      f(s)
      returned(name)
    end, mode)
  end
  job("read", function() (pair()):read() end)
  job("read(ms)", function() (pair()):read(3000000) end)
  job("clienthello", function() (pair()):clienthello(60000) end)
  job("write to a full socket", function() (pair()):write(check.bulk("x", 16000000)) end)
  own("read, mode r", (pair()), "r", function(s) s:read() end)
  own("read, mode s", (pair()), "s", function(s) s:read() end)
  own("write to a full socket, mode r", (pair()), "r", function(s) s:write(check.bulk("x", 16000000)) end)
  own("write to a full socket, mode s", (pair()), "s", function(s) s:write(check.bulk("x", 16000000)) end)
  own("disable", (pair()), "s", function(s) s:disable() end)
  own("disable, mode r", (pair()), "r", function(s) s:disable() end)
  own("accept", keep(ok(ba.socket.bind(0, {intf = "127.0.0.1"}))), "r", function(s) s:accept() end)
  job("read of UDP", function() keep(ok(ba.socket.udpcon(0))):read() end)
  own("read of UDP, mode r", keep(ok(ba.socket.udpcon(0))), "r", function(s) s:read(true) end)
  own("read of UDP, mode s", keep(ok(ba.socket.udpcon(0))), "s", function(s) s:read(true) end)
  local mute = keep(ok(ba.socket.bind(0, {intf = "127.0.0.1"})))
  local _, mute_port = mute:sockname()
  job("TLS connect to a mute server", function()
    keep(ba.socket.connect("127.0.0.1", mute_port, {timeout = 60000, shark = ba.create.sharkssl()}))
  end)
  local tls = {server = pki.server {timeout = 3000000}, client = ba.create.sharkssl(nil, {timeout = 3000000})}
  job("upgrade, client", function() (pair()):upgrade(tls.client) end)
  job("upgrade, server", function() (pair()):upgrade(tls.server) end)
  job("TLS accepted: read, which waits for the handshake", function()
    local listener = keep(ok(ba.socket.bind(0, {intf = "127.0.0.1", shark = tls.server})))
    local sock
    listener:event(function(l) sock = keep(l:accept()) end)
    keep(ok(ba.socket.connect("127.0.0.1", select(2, listener:sockname()))))
    wait(function() return sock end)
    sock:read()
  end)
  for what, f in pairs {head = function(r) r:head() end, body = function(r) r:body() end, wait = function(r) r:wait() end} do
    job("reader:" .. what, function()
      local a, b = pair()
      local r = ba.http.reader(a, "request")
      if what == "body" then
        b:write "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
        ok(r:head())
      end
      f(r)
    end)
  end
  local mute_url = "http://127.0.0.1:" .. mute_port
  job("httpc: request", function() keep(httpc.create()):request {url = mute_url} end)
  job("httpc: write", function()
    local h = keep(httpc.create())
    h:request {url = mute_url, method = "PUT"}
    while h:write(check.bulk("x", 1000000)) do end
  end)
  job("httpc: status", function()
    local h = keep(httpc.create())
    h:request {url = mute_url, method = "PUT", size = 5}
    h:write "hello"
    h:status()
  end)
  job("WebSocket: connect", function()
    local sock = keep(ok(ba.socket.connect("127.0.0.1", mute_port)))
    websocket.connect(sock, "127.0.0.1", "/")
  end)
  local function wspair()
    local a, b = pair()
    ok(ba.socket.websocket(a, {role = "server"}))
    return a, b
  end
  job("WebSocket: read", function() (wspair()):read() end)
  job("WebSocket: write", function()
    local a = wspair()
    local frame = ("x"):rep(65535)
    while a:write(frame) do end
  end)
  own("WebSocket: read, mode s", (wspair()), "s", function(s) s:read() end)
  local a, b = pair()
  local c, d = pair()
  job("relay", function() ba.socket.relay(b, c) end)
  ok(a and d)
  job("sleep", function() ba.sleep(2000) end)
  n = n + 1
  keep(ba.socket.event(function(s)
    parked("read(ms) of an unconnected cosocket")
    s:read(60000)
    returned("read(ms) of an unconnected cosocket")
  end))
  return n
end

check.job("an echo beside every call that waits", function()
  local waiting, came_back = {}, {}
  local n = start(function(name) waiting[name] = true end, function(name) came_back[name] = true end)
  local count = 0
  wait(function()
    count = 0
    for _ in pairs(waiting) do count = count + 1 end
    return count == n
  end, "all of them")
  local listener, port = check.listen(function(s)
    while true do
      local data = s:read()
      if not data then return end
      s:write(data)
    end
  end)
  local sock = ok(ba.socket.connect("127.0.0.1", port))
  for i = 1, 20 do
    ok(sock:write("echo " .. i))
    eq(sock:read(), "echo " .. i)
  end
  for name in pairs(came_back) do ok(name == "sleep", name .. " returned early") end
  sock:close()
  listener:close()
  wait(function()
    while #closed > 0 do
      local s = table.remove(closed)
      if s then s:close() end
    end
    local missing = false
    for name in pairs(waiting) do missing = missing or not came_back[name] end
    return not missing
  end, "the end of all of them")
end)
