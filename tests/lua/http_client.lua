-- require "httpc": requests and answers, bodies both ways, keep-alive, authentication, TLS.
local check = require "check"
local httpc = require "httpc"
local pki = require "pki"
local web = require "web"
local eq, ok, raises, results, both = check.eq, check.ok, check.raises, check.results, check.both

after_each(web.close)

-- The answer to a request without a body of its own: status and text.
local function get(h, op)
  local done, err, why = h:request(op)
  if not done then return nil, err, why end
  return h:status(), h:read "a"
end

-- Answers with what it was asked.
local function mirror(sock, head, reader)
  local lines = {head.method .. " " .. head.target}
  for _, f in ipairs(head.fields) do lines[#lines + 1] = f[1] .. ": " .. f[2] end
  if head.expect then sock:write(ba.http.response(100, {})) end
  lines[#lines + 1] = "body: " .. (web.body(reader) or "cut")
  web.answer(sock, 200, table.concat(lines, "\n"), {["X-Answer"] = "yes"})
end

both("a GET", function()
  local port = web.serve(mirror)
  local h <close> = httpc.create()
  eq(h:request {url = web.url(port, "/a b?c=d"), query = {e = {"1", "2"}}}, true)
  eq(h:status(), 200)
  eq(h:read "a", ("GET /a%%20b?c=d&e=1&e=2\nHost: 127.0.0.1:%d\nUser-Agent: cosockd\nAccept: */*\nbody: "):format(port))
  eq(h:read "a", "")
  eq(h:read(1), nil)
  results({"127.0.0.1", port, false}, h:peername())
  eq((h:sockname()), "127.0.0.1")
  results({nil, "notssl"}, h:trusted())
  eq(h:certificate(), nil)
  eq(h:cipher(), nil)
end)

both("fields of the request", function()
  local port = web.serve(mirror)
  local h <close> = httpc.create()
  local _, text = get(h, {url = web.url(port), method = "DELETE", header = {["user-agent"] = "mine", ["X-Number"] = 5, ["X-List"] = {"a", "b"}, Host = "other"}})
  eq(text, "DELETE /\nHost: other\nX-List: a\nX-List: b\nX-Number: 5\nuser-agent: mine\nAccept: */*\nbody: ")
  for name, value in pairs {["X\r\nY"] = "a", X = "a\r\nY: b", [""] = "a", ["a b"] = "c", Z = "a\0b"} do
    results({nil, "invalidparam"}, h:request {url = web.url(port), header = {[name] = value}})
  end
  results({nil, "invalidparam"}, h:request {url = web.url(port), method = "GET /x"})
  eq(get(h, {url = web.url(port)}), 200)
end)

both("fields of the answer", function()
  local port = web.serve(function(sock)
    web.answer(sock, 404, "", {{"X-Twice", "1"}, {"x-twice", "2"}, {"Set-Cookie", "a=b; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Secure; HttpOnly"},
                               {"Set-Cookie", "c=d=e"}, {"set-cookie", "nonsense"}, {"Set-Cookie", "empty=; max-age=5"},
                              {"Set-Cookie", "spaces=1; a" .. (" "):rep(4000) .. "b; "}})
  end)
  local h <close> = httpc.create()
  eq(h:request {url = web.url(port)}, true)
  eq(h:status(), 404)
  local header = h:header()
  results({"1, 2", "1, 2", "0", nil, nil}, header["X-Twice"], header["x-TWICE"], header["content-length"], header.none, header[1])
  results({"1, 2", nil}, h:header "X-twice", h:header "none")
  local names = {}
  for name in pairs(header) do names[#names + 1] = name end
  table.sort(names)
  eq(table.concat(names, " "), "Content-Length Set-Cookie X-Twice")
  local list = {}
  for name, value in h:headerpairs() do list[#list + 1] = name .. "=" .. value end
  eq(#list, 8)
  eq(list[1] .. list[2], "X-Twice=1x-twice=2")
  local cookies = {}
  for name, value, t in h:cookie() do
    cookies[#cookies + 1] = name .. "=" .. value
    if name == "a" then results({"/", "Thu, 01 Jan 1970 00:00:00 GMT", true, true}, t.path, t.expires, t.secure, t.httponly) end
    if name == "c" then eq(t, nil) end
    if name == "empty" then eq(t["max-age"], "5") end
  end
  eq(table.concat(cookies, " "), "a=b c=d=e empty= spaces=1")
end)

both("bodies of requests: chunks, a length, nothing", function()
  local port = web.serve(mirror)
  local h <close> = httpc.create()
  eq(h:request {url = web.url(port), method = "POST"}, true)
  eq(h:write "one ", true)
  eq(h:write(22), true)
  eq(h:write "", true)
  eq(h:write(ba.bytearray.create " three"), true)
  eq(h:status(), 200)
  local text = h:read "a"
  ok(text:find "Transfer%-Encoding: chunked" and text:find "body: one 22 three$", text)
  eq(h:request {url = web.url(port), method = "PUT", size = 5.0}, true)
  eq(h:write "he", true)
  results({nil, "toomuchdata"}, h:write "llo!")
  eq(h:write "llo", true)
  text = h:read "a"
  ok(text:find "Content%-Length: 5" and text:find "body: hello$", text)
  results({nil, "incorrectuse"}, h:write "x")
  for _, op in ipairs {{method = "POST"}, {method = "POST", size = 0}, {method = "PATCH", header = {["content-length"] = 0}}} do
    op.url = web.url(port)
    local status, body = get(h, op)
    eq(status, 200)
    ok(body:find "body: $", body)
  end
  eq(h:request {url = web.url(port), method = "REPORT", size = 3}, true)
  eq(h:write "abc", true)
  ok(h:read "a":find "^REPORT /.*body: abc$")
  eq(h:request {url = web.url(port), method = "PUT", size = 3}, true)
  results({nil, "incorrectuse"}, h:status()) -- three bytes were announced
  results({nil, "incorrectuse"}, h:write "abc")
  eq(get(h, {url = web.url(port)}), 200)
end)

both("how the body is framed is not the caller's to say twice", function()
  local port = web.serve(mirror)
  local h <close> = httpc.create()
  for given, sent in pairs {abc = "Transfer%-Encoding: chunked", ["-5"] = "Content%-Length: 0", ["0x0"] = "Content%-Length: 0"} do
    local status, text = get(h, {url = web.url(port), method = "POST", header = {["content-length"] = given, ["transfer-encoding"] = "x"}})
    eq(status, 200)
    ok(text:find(sent) and select(2, text:gsub("Content%-Length", "")) + select(2, text:gsub("Transfer%-Encoding", "")) == 1, text)
    ok(not text:find "content%-length" and not text:find "transfer%-encoding", text)
  end
  eq(h:request {url = web.url(port)}, true)
  ok(h:read(math.huge):find "body: $")
  eq(h:read(math.huge), nil)
end)

both("megabytes both ways", function()
  local data = check.pattern(3000001)
  local port = web.serve(function(sock, _, reader)
    local body = web.body(reader)
    sock:write(ba.http.response(200, {["Transfer-Encoding"] = "chunked"}))
    for i = 1, #body, 70001 do
      local part = body:sub(i, i + 70000)
      sock:write(("%x\r\n%s\r\n"):format(#part, part))
    end
    sock:write "0\r\nX-Trailer: 1\r\n\r\n"
  end)
  local h <close> = httpc.create()
  for _, size in ipairs {false, #data} do
    eq(h:request {url = web.url(port), method = "POST", size = size or nil}, true)
    eq(h:write(data), true)
    local parts = {}
    for part in function() return h:read(99991) end do
      ok(#part == 99991 or #parts == 30)
      parts[#parts + 1] = part
    end
    ok(table.concat(parts) == data, "bytes differ")
  end
end)

both("the connection is kept, and given up when it must be", function()
  local counts = {}
  local port = web.serve(function(sock, head)
    if head.target == "/close" then
      sock:write "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
      return false
    elseif head.target == "/old" then
      sock:write "HTTP/1.0 200 OK\r\n\r\nuntil the end"
      return false
    elseif head.target == "/leave" then
      web.answer(sock, 200, "ok")
      return false
    end
    web.answer(sock, head.target == "/204" and 204 or 200, head.target == "/long" and ("x"):rep(1000000) or head.target, nil, head.method == "HEAD")
  end, nil, counts)
  local h <close> = httpc.create()
  for _ = 1, 3 do eq(get(h, {url = web.url(port)}), 200) end
  eq(h:request {url = web.url(port, "/unread")}, true) -- its body is dropped
  local status, text = get(h, {url = web.url(port), method = "HEAD"})
  results({200, ""}, status, text)
  eq(h:header()["Content-Length"], "1")
  eq(h:request {url = web.url(port, "/dropped")}, true)
  eq(h:read(), true)
  eq(h:request {url = web.url(port, "/dropped")}, true)
  eq(h:read(0), true) -- as http.lua does
  eq(counts.connections, 1)
  eq(h:request {url = web.url(port, "/long")}, true) -- too much to be dropped
  eq(get(h, {url = web.url(port)}), 200)
  eq(counts.connections, 2)
  results({200, "ok"}, get(h, {url = web.url(port, "/close")}))
  results({200, "until the end"}, get(h, {url = web.url(port, "/old")}))
  eq(counts.connections, 3)
  results({200, "ok"}, get(h, {url = web.url(port, "/leave")}))
  eq(counts.connections, 4)
  results({200, "/"}, get(h, {url = web.url(port)})) -- the server has left without a word
  eq(counts.connections, 5)
  h:close()
  eq(h:status(), 200) -- still known
  results({nil, "closed"}, h:read "a")
  results({200, "/"}, get(h, {url = web.url(port)}))
  local other = web.serve(mirror)
  eq(get(h, {url = web.url(other)}), 200)
  local single <close> = httpc.create {persistent = false}
  eq(get(single, {url = web.url(port)}), 200)
  eq(get(single, {url = web.url(port)}), 200)
  eq(counts.connections, 8)
end)

both("interim answers are passed over", function()
  local port = web.serve(function(sock, head)
    local n = head.target == "/many" and 1000 or 3
    sock:write(("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"):rep(n))
    web.answer(sock, 200, "after")
  end)
  local h <close> = httpc.create()
  results({200, "after"}, get(h, {url = web.url(port)}))
  results({nil, "invalidresponse"}, get(h, {url = web.url(port, "/many")}))
end)

-- ---- Expect, and servers that refuse ----

both("Expect: the body waits for the 100, at most a second", function()
  local order = {}
  local port = web.serve(function(sock, head, reader)
    if head.target == "/no" then
      web.answer(sock, 417, "no")
      return false
    end
    if head.target == "/100" then sock:write(ba.http.response(100, {})) end
    order[#order + 1] = head.header.expect
    web.answer(sock, 200, web.body(reader))
  end)
  local h <close> = httpc.create()
  for _, target in ipairs {"/100", "/silent"} do
    eq(h:request {url = web.url(port, target), method = "PUT", size = 2, header = {Expect = "100-continue"}}, true)
    eq(h:write "hi", true)
    eq(h:read "a", "hi")
  end
  eq(h:request {url = web.url(port, "/no"), method = "PUT", size = 2, header = {Expect = "100-continue"}}, true)
  results({nil, 417}, h:write "hi")
  results({417, "no"}, h:status(), h:read "a")
  eq(#order, 2)
  eq(h:request {url = web.url(port, "/100"), method = "PUT", size = 2}, true) -- on a new connection
  eq(h:write "hi", true)
  eq(h:status(), 200)
end)

both("a server that refuses in the middle of an upload", function()
  local port = web.serve(function(sock, head)
    web.answer(sock, 413, "too large")
    if head.target == "/reads" then check.read(sock, 1 << 40) end -- and drops it
    return false
  end)
  for _, target in ipairs {"/reads", "/closes"} do
    local h <close> = httpc.create()
    eq(h:request {url = web.url(port, target), method = "PUT"}, true)
    local sent, done, err = 0, nil, nil
    repeat
      done, err = h:write(check.bulk("x", 100000))
      sent = sent + 100000
    until not done or sent > 100e6
    if target == "/reads" then
      results({nil, 413}, done, err)
      results({413, "too large"}, h:status(), h:read "a")
    else -- its reset may destroy the answer
      ok(err == 413 or err == "socketwritefailed" or err == "socketreadfailed" or err == "socketclosed", err)
    end
    h:close()
  end
end)

-- ---- users and passwords ----

local function guarded(scheme, counts)
  local nonce = 1
  return web.serve(function(sock, head, reader)
    local answer = head.header.authorization or ""
    if scheme == "Basic" and answer == "Basic " .. ba.b64encode "joe:secret" or
       scheme == "Digest" and answer:find('^Digest username="joe".*nonce="n' .. nonce .. '".*response="%x+"') then
      if head.expect then sock:write(ba.http.response(100, {})) end
      local body = web.body(reader)
      if head.target == "/old" then nonce = nonce + 1 end
      return web.answer(sock, 200, "welcome " .. body)
    end
    local stale = answer:find "^Digest" and ", stale=true" or ""
    local challenge = scheme == "Basic" and 'Basic realm="x"' or ('Digest realm="x", qop="auth", nonce="n%d"%s'):format(nonce, stale)
    if not head.expect then web.body(reader) end
    web.answer(sock, 401, "who are you?", {["WWW-Authenticate"] = challenge})
    if head.expect then return false end
  end, nil, counts)
end

for _, scheme in ipairs {"Basic", "Digest"} do
  both(scheme, function()
    local counts = {}
    local port = guarded(scheme, counts)
    local h <close> = httpc.create()
    eq(get(h, {url = web.url(port)}), 401)
    results({200, "welcome "}, get(h, {url = web.url(port), user = "joe", password = "secret"}))
    eq(counts.requests, 3)
    results({200, "welcome "}, get(h, {url = web.url(port), user = "joe", password = "secret"}))
    eq(counts.requests, 4) -- it is known what the server wants
    eq(counts.connections, 1)
    results({200, "welcome "}, get(h, {url = ("http://joe:secret@127.0.0.1:%d/old"):format(port)}))
    if scheme == "Digest" then
      results({200, "welcome "}, get(h, {url = web.url(port), user = "joe", password = "secret"}))
      eq(counts.requests, 7) -- one with the old nonce
    end
    eq(get(h, {url = web.url(port)}), 401) -- nobody's request
    local wrong <close> = httpc.create()
    eq(get(wrong, {url = web.url(port), user = "joe", password = "wrong"}), scheme == "Basic" and 401 or 200)
  end)

  both(scheme .. " before a body", function()
    local port = guarded(scheme)
    local h <close> = httpc.create()
    for _ = 1, 2 do
      eq(h:request {url = web.url(port), method = "POST", user = "joe", password = "secret"}, true)
      eq(h:write "body", true)
      results({200, "welcome body"}, h:status(), h:read "a")
    end
  end)
end

both("a server that never has enough", function()
  local counts = {}
  local port = web.serve(function(sock)
    web.answer(sock, 401, "", {["WWW-Authenticate"] = 'Digest realm="x", nonce="n", stale=true'})
  end, nil, counts)
  local h <close> = httpc.create()
  eq(get(h, {url = web.url(port), user = "joe", password = "x"}), 401)
  ok(counts.requests <= 3)
end)

-- ---- TLS ----

both("https, its certificate, and who is trusted", function()
  local port = web.serve(mirror, {shark = pki.server()})
  local url = ("https://localhost:%d/"):format(port)
  local h <close> = httpc.create {shark = pki.client()}
  eq(get(h, {url = url, trusted = true}), 200)
  eq(h:trusted(), true)
  local chain, valid = h:certificate()
  eq(chain[1].subject.commonname, "test")
  eq(valid, true)
  ok(h:cipher())
  eq(get(h, {url = url}), 200)
  local stranger <close> = httpc.create {shark = ba.create.sharkssl()}
  eq(get(stranger, {url = url}), 200)
  results({nil, "cn"}, stranger:trusted())
  results({nil, "sslnottrusted"}, stranger:request {url = url, trusted = true}) -- on the kept connection, and on a new one
  results({nil, "sslnottrusted"}, stranger:request {url = url, trusted = true})
  local plain = web.serve(mirror)
  results({nil, "sslnottrusted"}, h:request {url = web.url(plain), trusted = true})
  eq(h:request {url = ("https://127.0.0.1:%d/"):format(plain)}, nil)
end)

-- ---- use ----

check.job("wrong arguments are raised", function()
  local h = httpc.create()
  raises("url is missing", h.request, h, {})
  raises("expected a table", h.request, h)
  raises("size: expected number", h.request, h, {url = "http://h", size = "5"})
  raises("size: expected a number", h.request, h, {url = "http://h", size = -1})
  raises("size: expected a number", h.request, h, {url = "http://h", size = 0 / 0})
  raises("proxy: expected string", httpc.create, {proxy = 5})
  raises("read: expected", h.read, h, "l")
  raises("read: expected", h.read, h, -1)
  raises("write: expected", h.write, h, {})
  raises("timeout: expected", h.timeout, h, -1)
  results({nil, "invalidurl"}, h:request {url = "nonsense"})
  results({nil, "invalidurl"}, h:status())
end)

check.job("before a request", function()
  local h = httpc.create()
  results({nil, "incorrectuse"}, h:status())
  results({nil, "incorrectuse"}, h:header())
  results({nil, "incorrectuse"}, h:read "a")
  results({nil, "incorrectuse"}, h:write "x")
  results({nil, "invalidsocketcon"}, h:peername())
  for _ in h:headerpairs() do error "a field" end
  for _ in h:cookie() do error "a cookie" end
  h:close()
  h:close()
end)

both("nobody listens, no such name", function()
  local h <close> = httpc.create()
  h:timeout(3000)
  results({nil, "cannotconnect"}, h:request {url = web.url(check.dead_port())})
  results({nil, "cannotresolve"}, h:request {url = "http://nobody.invalid/"})
  results({nil, "cannotresolve"}, h:status())
end)

check.cosocket("the caller's own socket is left alone", function(sock)
  local port = web.serve(mirror)
  local h <close> = httpc.create()
  eq(get(h, {url = web.url(port)}), 200)
  results({"exec", false}, sock:state())
  local listener, echo = check.listen(check.echo)
  eq(ba.socket.connect("127.0.0.1", echo), sock)
  eq(get(h, {url = web.url(port)}), 200)
  local other = ba.socket.connect("127.0.0.1", echo, {blocking = true})
  ok(other ~= sock)
  other:write "x"
  eq(other:read(), "x")
  eq(other:owner(), false)
  other:close()
  listener:close()
end)

check.job("in a timer", function()
  local port = web.serve(mirror)
  local status
  local timer = ba.timer(function()
    local h <close> = httpc.create()
    status = get(h, {url = web.url(port)})
  end)
  timer:set(1, true)
  eq(check.wait(function() return status end), 200)
end)

check.job("many at a time", function()
  local port = web.serve(mirror)
  local done = 0
  for i = 1, 50 do
    ba.thread.run(function()
      local h <close> = httpc.create()
      for j = 1, 5 do
        local status, text = get(h, {url = web.url(port, "/" .. i .. "/" .. j)})
        eq(status, 200)
        ok(text:find("GET /" .. i .. "/" .. j .. "\n", 1, true))
      end
      done = done + 1
    end)
  end
  check.wait(function() return done == 50 end)
end)

-- ---- http2sock ----

both("an upgrade to something else: the connection is not used for HTTP again", function()
  local counts = {}
  local port = web.serve(function(sock)
    sock:write(ba.http.response(101, {Upgrade = "mine", Connection = "Upgrade"}) .. "mine")
    return nil
  end, nil, counts)
  local h <close> = httpc.create()
  for i = 1, 2 do
    eq(h:request {url = web.url(port), header = {Upgrade = "mine", Connection = "Upgrade"}}, true)
    eq(h:status(), 101)
    eq(counts.connections, i)
  end
  local sock <close> = ba.socket.http2sock(h)
  eq(check.read(sock, 4), "mine")
  eq(sock:websocket(), false)
end)

both("the connection as a socket", function()
  local port = web.serve(function(sock)
    sock:write "HTTP/1.1 200 OK\r\nX-Protocol: mine\r\n\r\nfirst bytes"
    sock:write(sock:read() .. "!")
    return false
  end)
  local h = httpc.create()
  eq(h:request {url = web.url(port)}, true)
  eq(h:status(), 200)
  local sock <close>, rest = ba.socket.http2sock {raw = h}
  eq(rest, nil)
  eq(check.read(sock, 11), "first bytes")
  sock:write "mine"
  eq(sock:read(), "mine!")
  results({nil, "incorrectuse"}, h:request {url = web.url(port)})
  results({nil, "incorrectuse"}, h:read "a")
  results({nil, "incorrectuse"}, ba.socket.http2sock(h))
end)

check.job("http2sock of what it cannot be", function()
  results({nil, "invalidsocketcon"}, ba.socket.http2sock(httpc.create()))
  for _, what in ipairs {5, "x", {}, {raw = 5}} do raises("HTTP client", ba.socket.http2sock, what) end
  raises("HTTP client", ba.socket.http2sock)
end)
