-- require "httpc" through proxies: CONNECT and SOCKS5, with users, what they refuse, and proxies that misbehave.
local check = require "check"
local httpc = require "httpc"
local pki = require "pki"
local web = require "web"
local websocket = require "cosock.websocket"
local eq, ok, results, both = check.eq, check.ok, check.results, check.both

local proxies = {}
after_each(function()
  web.close()
  while proxies[1] do table.remove(proxies):close() end
end)

-- A proxy for tests: f(sock) gives host and port of a client, or nil; then welcome(sock), and bytes both ways.
local function proxy(f, welcome)
  local listener, port = check.listen(function(sock)
    local host, to = f(sock)
    if not host then return end
    local server = ba.socket.connect(host, to, {blocking = true})
    if not server then return end
    welcome(sock)
    ba.socket.relay(sock, server, {detach = true})
  end)
  proxies[#proxies + 1] = listener
  return port
end

local function connect_proxy(seen, want)
  return proxy(function(sock)
    local reader = ba.http.reader(sock, "request")
    local head = reader:head()
    seen[#seen + 1] = head.method .. " " .. head.target
    if want and not (head.header["proxy-authorization"] or ""):find(want) then
      web.answer(sock, 407, "who?", {["Proxy-Authenticate"] = want:match "^%a+" .. ' realm="p", nonce="1", qop="auth"'})
      return nil
    end
    return head.target:match "^([^:]+):(%d+)$"
  end, function(sock) sock:write "HTTP/1.0 200 fine\r\nVia: x\r\n\r\n" end)
end

local function socks_proxy(seen, user)
  return proxy(function(sock)
    local hello = check.read(sock, user and 4 or 3)
    if user then
      if hello ~= "\5\2\0\2" then
        sock:write "\5\255"
        return nil
      end
      sock:write "\5\2"
      local login = check.read(sock, 1 + #user)
      sock:write(login == "\1" .. user and "\1\0" or "\1\5")
    else
      eq(hello, "\5\1\0")
      sock:write "\5\0"
    end
    local request = check.read(sock, 10) -- comes in one piece
    if #request < 10 then return nil end
    local to = request:byte(4) == 3 and request:sub(6, -3) or ("%d.%d.%d.%d"):format(request:byte(5, 8))
    seen[#seen + 1] = to
    return to, ba.socket.n2h(2, request:sub(-2))
  end, function(sock) sock:write "\5\0\0\4" sock:write(("\0"):rep(18)) end)
end

local function mirror(sock, head, reader) web.answer(sock, 200, head.target .. " " .. (web.body(reader) or "")) end

local function get(h, url)
  local done, err = h:request {url = url}
  if not done then return nil, err end
  return h:status(), h:read "a"
end

for name, make in pairs {CONNECT = connect_proxy, SOCKS5 = socks_proxy} do
  both("http and https through " .. name, function()
    local port, secure = web.serve(mirror), web.serve(mirror, {shark = pki.server()})
    local seen = {}
    local h <close> = httpc.create {proxy = "127.0.0.1", proxyport = make(seen), socks = name == "SOCKS5", shark = pki.client()}
    results({200, "/a "}, get(h, web.url(port, "/a")))
    results({200, "/b "}, get(h, web.url(port, "/b")))
    eq(h:request {url = ("https://localhost:%d/c"):format(secure), method = "PUT", trusted = true}, true)
    eq(h:write "body", true)
    results({200, "/c body"}, h:status(), h:read "a")
    eq(h:trusted(), true)
    eq(#seen, 2)
    results(name == "SOCKS5" and {"127.0.0.1", "localhost"} or {"CONNECT 127.0.0.1:" .. port, "CONNECT localhost:" .. secure}, seen[1], seen[2])
    local wrong <close> = httpc.create {proxy = "127.0.0.1", proxyport = make(seen), socks = name == "SOCKS5", shark = pki.client()}
    local other = web.serve(mirror, {shark = pki.server(nil, pki.pem("other.example", pki.ca))})
    results({nil, "sslnottrusted"}, wrong:request {url = ("https://localhost:%d/"):format(other), trusted = true})
  end)

  both("ws and wss through " .. name, function()
    local function serve(sock, head)
      if websocket.accept(sock, head, {subprotocols = {"chat"}}) then check.echo(sock) end
      return false
    end
    local port, secure = web.serve(serve), web.serve(serve, {shark = pki.server()})
    local seen = {}
    for i, url in ipairs {("ws://127.0.0.1:%d/"):format(port), ("wss://localhost:%d/"):format(secure)} do
      local h = httpc.create {proxy = "127.0.0.1", proxyport = make(seen), socks = name == "SOCKS5", shark = pki.client()}
      eq(h:request {url = url, trusted = i == 2, header = {["Sec-WebSocket-Protocol"] = "chat"}}, true)
      results({101, "chat"}, h:status(), (h:header "sec-websocket-protocol"))
      local sock <close> = ba.socket.http2sock(h)
      eq(sock:websocket(), true)
      eq(sock:cipher() ~= nil, i == 2)
      eq(sock:write(("through"):rep(5000)), true)
      eq(check.read(sock, 35000), ("through"):rep(5000))
    end
    results(name == "SOCKS5" and {"127.0.0.1", "localhost"} or {"CONNECT 127.0.0.1:" .. port, "CONNECT localhost:" .. secure}, seen[1], seen[2])
  end)

  both("the tunnel itself, through " .. name, function()
    local listener, port = check.listen(function(sock)
      sock:write "220 I speak first\r\n"
      check.echo(sock)
    end)
    local h = httpc.create {proxy = "127.0.0.1", proxyport = make {}, socks = name == "SOCKS5", proxycon = true}
    results({nil, "prxready"}, h:request {url = ("smtp://127.0.0.1:%d"):format(port)})
    results({nil, "incorrectuse"}, h:status())
    local sock <close> = ba.socket.http2sock(h)
    eq(check.read(sock, 19), "220 I speak first\r\n")
    sock:write "echo"
    eq(sock:read(), "echo")
    results({nil, "incorrectuse"}, h:request {url = "http://x"})
    listener:close()
  end)

  both("no proxy: " .. name, function()
    local h <close> = httpc.create {proxy = "127.0.0.1", proxyport = check.dead_port(), socks = name == "SOCKS5"}
    results({nil, "cannotconnect"}, h:request {url = "http://x/"})
    local lost <close> = httpc.create {proxy = "nobody.invalid", socks = name == "SOCKS5"}
    results({nil, "cannotresolve"}, lost:request {url = "http://x/"})
  end)
end

both("users of a CONNECT proxy", function()
  local port = web.serve(mirror)
  for _, want in ipairs {"Basic " .. ba.b64encode "joe:secret", 'Digest username="joe".*uri="127.0.0.1:%d+"'} do
    local seen = {}
    local at = connect_proxy(seen, want)
    local h <close> = httpc.create {proxy = "127.0.0.1", proxyport = at, proxyuser = "joe", proxypass = "secret"}
    results({200, "/ "}, get(h, web.url(port)))
    eq(#seen, 2)
    h:close()
    results({200, "/ "}, get(h, web.url(port)))
    eq(#seen, 3) -- what the proxy wants is known
    local nobody <close> = httpc.create {proxy = "127.0.0.1", proxyport = at}
    results({nil, 407}, nobody:request {url = web.url(port)})
    if want:find "^Basic" then
      local wrong <close> = httpc.create {proxy = "127.0.0.1", proxyport = at, proxyuser = "joe", proxypass = "wrong"}
      results({nil, 407}, wrong:request {url = web.url(port)})
    end
  end
end)

both("users of a SOCKS5 proxy", function()
  local port = web.serve(mirror)
  local at = socks_proxy({}, "\3joe\6secret")
  local function client(user, password)
    return httpc.create {proxy = "127.0.0.1", proxyport = at, socks = true, proxyuser = user, proxypass = password}
  end
  local h <close> = client("joe", "secret")
  results({200, "/ "}, get(h, web.url(port)))
  local wrong <close> = client("joe", "wrong!")
  results({nil, "proxyauth"}, wrong:request {url = web.url(port)})
  local long <close> = client(("x"):rep(256))
  results({nil, "invalidparam"}, long:request {url = web.url(port)})
end)

-- A proxy that answers with these pieces, one after each thing it reads, then closes (or with hold waits).
local function script(pieces, hold)
  local listener, port = check.listen(function(sock)
    for _, piece in ipairs(pieces) do
      if not sock:read() then return end
      sock:write(piece)
    end
    if hold then sock:read() end
  end)
  proxies[#proxies + 1] = listener
  return port
end

local function through(port, socks, ms, user)
  local h <close> = httpc.create {proxy = "127.0.0.1", proxyport = port, socks = socks, proxyuser = user}
  h:timeout(ms or 5000)
  return h:request {url = "http://x.example/"}
end

both("what SOCKS5 proxies refuse, and proxies that are none", function()
  for code, err in ipairs {"prxgeneral", "prxnotallowed", "prxnetwork", "prxhost", "prxrefused", "prxttl", "prxcommand", "prxaddress", "prxunknown"} do
    results({nil, err}, through(script {"\5\0", "\5" .. string.char(code) .. "\0\1\0\0\0\0\0\0"}, true))
  end
  results({nil, "prxnotcompat"}, through(script {"HTTP/1.1 400 Bad Request\r\n\r\n"}, true))
  results({nil, "prxnotcompat"}, through(script {"\4\0"}, true))
  results({nil, "prxnotcompat"}, through(script {"\5\2"}, true)) -- not offered
  results({nil, "prxnotcompat"}, through(script {"\5\0", "\4\0\0\1\0\0\0\0\0\0"}, true))
  results({nil, "prxnotcompat"}, through(script {"\5\0", "\5\0\0\9\0\0\0\0\0\0"}, true))
  results({nil, "proxyauth"}, through(script {"\5\255"}, true))
  results({nil, "proxyauth"}, through(script {"\5\2", "\1\1"}, true, nil, "joe"))
  results({nil, "socketclosed"}, through(script {"\5"}, true))
  results({nil, "socketclosed"}, through(script {"\5\0", "\5\0\0\1\0"}, true))
  results({nil, "timeout"}, through(script({"\5"}, true), true, 20))
  results({nil, "timeout"}, through(script({"\5\0", "\5\0\0\1\0"}, true), true, 20))
end)

both("what CONNECT proxies refuse, and proxies that are none", function()
  results({nil, 403}, through(script {"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"}))
  results({nil, 302}, through(script {"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n"}))
  results({nil, 407}, through(script {"HTTP/1.1 407 Who\r\n\r\n"}))
  results({nil, "invalidresponse"}, through(script {"\5\0"}))
  results({nil, "invalidresponse"}, through(script {("HTTP/1.1 100 Continue\r\n\r\n"):rep(50)}))
  results({nil, "socketclosed"}, through(script {}))
  results({nil, "timeout"}, through(script({"HTTP/1.1 200 OK\r\n"}, true), nil, 20))
end)

both("an upload that the proxy refuses", function()
  local h <close> = require "httpm".create {proxy = "127.0.0.1", proxyport = connect_proxy({}, "Basic .")}
  local file = {closed = 0, read = function() end, close = function(self) self.closed = self.closed + 1 end}
  results({nil, 407}, h:upload {fp = file, url = "http://127.0.0.1:1/"})
  eq(file.closed, 1)
  results({nil, 407}, h:post("http://127.0.0.1:1/", {a = 1}))
end)
