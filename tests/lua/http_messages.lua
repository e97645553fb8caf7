-- ba.http: messages of HTTP/1 off a socket, and heads as text
local check = require "check"
local eq, ok, raises, results = check.eq, check.ok, check.raises, check.results

local reader = ba.http.reader
local function in_job(f) ba.thread.run(f) end

-- The rest of a body, as one string.
local function whole(r, max, ms)
  local parts, piece, err, status, why = {}, nil, nil, nil, nil
  repeat
    piece, err, status, why = r:body(max, ms or 5000)
    if piece == "" then error "an empty piece" end
    parts[#parts + 1] = piece
  until not piece
  if err then return nil, err, status, why end
  return table.concat(parts)
end

local function flat(fields)
  local list = {}
  for _, f in ipairs(fields) do list[#list + 1] = f[1] .. "=" .. f[2] end
  return table.concat(list, "|")
end

local GET = "GET /a?b=c HTTP/1.1\r\nHost: example.com:80\r\nX-One: 1\r\nAccept: a\r\naccept:  b \r\nCookie: a=1\r\ncookie: b=2\r\n\r\n"

local function check_get(h, err)
  ok(h, err)
  results({"GET", "/a?b=c", "1.1", true, false, false, "none", nil},
          h.method, h.target, h.version, h.keepalive, h.upgrade, h.expect, h.body, h.length)
  eq(flat(h.fields), "Host=example.com:80|X-One=1|Accept=a|accept=b|Cookie=a=1|cookie=b=2")
  results({"example.com:80", "1", "a, b", "a=1; b=2"}, h.header.host, h.header["x-one"], h.header.accept, h.header.cookie)
end

check.every_mode("a request at once; what follows stays readable", function(a, b)
  b:write(GET .. "tail")
  local r = reader(a, "request")
  check_get(r:head(50000))
  eq(r:body(), nil)
  eq(check.read(a, 4), "tail")
end)

check.every_mode("a request byte by byte", function(a, b)
  in_job(function()
    for i = 1, #GET do
      b:write(GET:sub(i, i))
      ba.sleep(0)
    end
  end)
  check_get(reader(a, "request"):head(10000))
end)

check.every_mode("pipelined requests, a body with a length, one in chunks with trailers", function(a, b)
  b:write("POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello" ..
          "PUT /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" ..
          "3;ext=1\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 9\r\nX-More: 1\r\n\r\n" ..
          "POST /3 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" ..
          "GET /4 HTTP/1.0\r\n\r\n")
  local r = reader(a, "request")
  local h = ok(r:head(50000))
  results({"/1", "length", 5, true}, h.target, h.body, h.length, h.expect)
  results({nil, "incorrectuse"}, r:head(0)) -- its body first
  eq(whole(r), "hello")
  eq(r:body(), nil)
  h = ok(r:head(50000))
  results({"/2", "chunked", nil}, h.target, h.body, h.length)
  eq(#r:trailers(), 0)
  eq(whole(r), "abcd")
  eq(flat(r:trailers()), "X-Sum=9|X-More=1")
  h = ok(r:head(50000))
  results({"/3", "length", 0}, h.target, h.body, h.length)
  eq(#r:trailers(), 0)
  results({nil, nil}, r:body(), nil)
  h = ok(r:head(50000))
  results({"/4", "1.0", false, "none"}, h.target, h.version, h.keepalive, h.body)
  in_job(function() b:close() end)
  results({nil, "socketclosed"}, r:head(50000))
  results({nil, "socketclosed"}, r:head(50000))
end)

check.every_mode("a body piece by piece, never more than asked for", function(a, b)
  local body = check.pattern(300000)
  in_job(function()
    b:write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " .. #body .. "\r\n\r\n")
    b:write(body)
    b:write("next")
  end)
  local r = reader(a, "request")
  ok(r:head(50000))
  for _, max in ipairs {1, 2, 1000, 100000} do
    local piece = ok(r:body(max, 5000))
    ok(#piece <= max and #piece <= 65536, "length of a piece")
    eq(piece, body:sub(1, #piece))
    body = body:sub(#piece + 1)
  end
  eq(whole(r), body)
  eq(check.read(a, 4), "next")
end)

check.every_mode("a body in many small chunks comes in few pieces", function(a, b)
  local chunks = {}
  for i = 1, 2000 do chunks[i] = "1\r\n" .. string.char(97 + i % 26) .. "\r\n" end
  b:write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" .. table.concat(chunks) .. "0\r\n\r\n!")
  local r = reader(a, "request")
  ok(r:head(50000))
  local n, pieces = 0, 0
  for piece in function() return (r:body(nil, 5000)) end do n, pieces = n + #piece, pieces + 1 end
  eq(n, 2000)
  ok(pieces < 20, pieces)
  eq(check.read(a, 1), "!")
end)

check.every_mode("the time is for all of a head; it can be gone on with", function(a, b)
  local stop
  in_job(function()
    for i = 1, #GET - 1 do
      if stop then return end
      b:write(GET:sub(i, i))
      ba.sleep(10)
    end
  end)
  local r = reader(a, "request")
  results({nil, "timeout"}, r:head(60))
  stop = true
  results({nil, "timeout"}, r:head(0))
  b:write "\r\nHost: y\r\n\r\n" -- a bare end somewhere in it
  local h, err, status = r:head(50000)
  results({nil, "badrequest", 400}, h, err, status)
end)

check.every_mode("wait: until a message begins", function(a, b)
  local r = reader(a, "request")
  results({nil, "timeout"}, r:wait(0))
  results({nil, "timeout"}, r:wait(5))
  in_job(function() b:write "G" end)
  eq(r:wait(5000), true)
  results({nil, "timeout"}, r:head(0))
  eq(r:wait(0), true) -- it has begun
  b:write "ET / HTTP/1.0\r\n\r\n"
  eq(ok(r:head(50000)).target, "/")
  in_job(function() b:close() end)
  results({nil, "socketclosed"}, r:wait(5000))
end)

check.every_mode("a body that does not come", function(a, b)
  b:write "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"
  local r = reader(a, "request")
  ok(r:head(50000))
  eq(r:body(nil, 5000), "ab")
  results({nil, "timeout"}, r:body(nil, 10))
  in_job(function() b:close() end)
  results({nil, "badrequest", 400, "the connection ended within a message"}, r:body(nil, 5000))
  results({nil, "badrequest", 400}, r:body())
  results({nil, "badrequest", 400}, r:head())
end)

check.every_mode("an upgrade leaves the rest to be read", function(a, b)
  b:write("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x85frame")
  local h = ok(reader(a, "request"):head(50000))
  results({true, "websocket", "none"}, h.upgrade, h.header.upgrade, h.body)
  eq(check.read(a, 7), "\x81\x85frame")
end)

check.every_mode("answers: 1xx, to HEAD, to CONNECT, until the end", function(a, b)
  b:write("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" ..
          "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\r\nabc" ..
          "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" ..
          "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n" ..
          "HTTP/1.1 204\r\n\r\n" ..
          "HTTP/1.1 200 Connected\r\nTransfer-Encoding: chunked\r\n\r\ntunnel")
  local r = reader(a, "response")
  local h = ok(r:head(5000, "GET"))
  results({103, "Early Hints", "none", nil}, h.status, h.reason, h.body, h.method)
  h = ok(r:head(5000, "GET"))
  results({200, "length", 3, nil}, h.status, h.body, h.length, h.header["set-cookie"])
  eq(flat(h.fields), "Content-Length=3|Set-Cookie=a=1|set-cookie=b=2")
  eq(whole(r), "abc")
  h = ok(r:head(5000, "HEAD"))
  results({200, "none", "1000"}, h.status, h.body, h.header["content-length"])
  eq(ok(r:head(5000, "GET")).body, "none")
  h = ok(r:head(5000, "GET"))
  results({204, "", "none"}, h.status, h.reason, h.body)
  eq(ok(r:head(5000, "CONNECT")).body, "none")
  eq(check.read(a, 6), "tunnel")
  b:write "HTTP/1.0 200 OK\r\n\r\nall of it"
  in_job(function() b:close() end)
  h = ok(r:head(5000, "GET"))
  results({"close", false}, h.body, h.keepalive)
  eq(whole(r), "all of it")
  results({nil, "socketclosed"}, r:head(50000))
end)

check.job("malformed and smuggling requests", function()
  local H = "Host: x\r\n"
  local long = ("x"):rep(9000)
  local many = ("A: b\r\n"):rep(101)
  for _, case in ipairs {
    {400, "GET / HTTP/1.1\nHost: x\n\n"}, -- bare LF
    {400, "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost : x\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" .. H .. " folded\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" .. H .. "A: b\r\n folded\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n\r\n"}, -- no Host
    {400, "GET / HTTP/1.1\r\n" .. H .. H .. "\r\n"},
    {400, "GET /a b HTTP/1.1\r\n" .. H .. "\r\n"},
    {400, "GET /a#b HTTP/1.1\r\n" .. H .. "\r\n"},
    {400, "GET\t/ HTTP/1.1\r\n" .. H .. "\r\n"},
    {400, "G(T / HTTP/1.1\r\n" .. H .. "\r\n"},
    {400, "GET / http/1.1\r\n" .. H .. "\r\n"},
    {400, "GET /\r\n\r\n"},
    {505, "GET / HTTP/2.0\r\n" .. H .. "\r\n"},
    {400, "GET / HTTP/1.1\r\n" .. H .. "A: \0\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" .. H .. ": b\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" .. H .. "no colon\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" .. H .. "Content-Length: 1\r\nContent-Length: 1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" .. H .. "Content-Length: 1, 1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" .. H .. "Content-Length: +1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" .. H .. "Content-Length: 99999999999999999999\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" .. H .. "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {501, "POST / HTTP/1.1\r\n" .. H .. "Transfer-Encoding: gzip, chunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" .. H .. "Transfer-Encoding: xchunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" .. H .. "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {417, "POST / HTTP/1.1\r\n" .. H .. "Expect: wonders\r\nContent-Length: 1\r\n\r\n"},
    {414, "GET /" .. long},
    {431, "GET / HTTP/1.1\r\nA: " .. long},
    {431, "GET / HTTP/1.1\r\n" .. many},
    {400, "\x16\x03\x01\x02\x00\x01"}, -- TLS
  } do
    local a, b = check.pair()
    b:write(case[2])
    local h, err, status, why = reader(a, "request"):head(50000)
    local text = case[2]:sub(1, 60)
    results({nil, "badrequest"}, h, err)
    eq(status, case[1], ("%q"):format(text))
    eq(type(why), "string")
    a:close()
    b:close()
  end
end)

check.job("malformed chunks", function()
  for _, chunk in ipairs {"x\r\n", "-1\r\n", "0x1\r\n", " 1\r\n", "1 \r\n", "1\n", "1\r\nabc\r\n", "1\r\na\n", "fffffffffffffffff\r\n", "\r\n",
                          "0\r\nContent-Length: 1\r\n\r\n", "1;a=\"\0\"\r\n"} do
    local a, b = check.pair()
    b:write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" .. chunk)
    local r = reader(a, "request")
    ok(r:head(50000))
    local got, err, status = whole(r)
    results({nil, "badrequest", 400}, got, err, status)
    a:close()
    b:close()
  end
end)

check.job("limits of the caller", function()
  local a, b = check.pair()
  b:write "GET /0123456789 HTTP/1.1\r\n"
  results({nil, "badrequest", 414}, reader(a, "request", {line = 16}):head(50000))
  a:close()
  b:close()
  a, b = check.pair()
  b:write "HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n"
  results({nil, "invalidresponse", 431}, reader(a, "response", {fields = 1}):head(50000))
  raises("'line'", reader, a, "request", {line = 0})
  raises("'fields'", reader, a, "request", {fields = 40000})
  raises("invalid option", reader, a, "both")
  raises("ba.socket expected", reader, {}, "request")
  raises("negative", reader(a, "request").head, reader(a, "request"), -1)
  raises("at least one", reader(a, "request").body, reader(a, "request"), 0)
  a:close()
  results({nil, "closed"}, reader(a, "request"):head())
  b:close()
end)

check.job("closed while it waits; only its own coroutine may", function()
  local a, b = check.pair()
  local r = reader(a, "request")
  local got
  a:event(function() got = table.pack(r:head()) end, "s")
  raises("own coroutine", r.head, r)
  a:close()
  check.wait(function() return got end)
  results({nil, "closed"}, got[1], got[2])
  b:close()
end)

it("heads as text", function()
  eq(ba.http.request("GET", "/a", {Host = "x"}), "GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
  eq(ba.http.request("CONNECT", "x:443", {}, "1.0"), "CONNECT x:443 HTTP/1.0\r\n\r\n")
  eq(ba.http.request("POST", "/", {{"Host", "x"}, {"Content-Length", 5}, {"A", {"1", 2}}}),
     "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nA: 1\r\nA: 2\r\n\r\n")
  eq(ba.http.response(200, {{"A", "b"}}), "HTTP/1.1 200 OK\r\nA: b\r\n\r\n")
  eq(ba.http.response(404.0, {["Set-Cookie"] = {"a=1", "b=2"}}), "HTTP/1.1 404 Not Found\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n")
  eq(ba.http.response(299, {}, "Fine"), "HTTP/1.1 299 Fine\r\n\r\n")
  eq(ba.http.response(299, {}), "HTTP/1.1 299 \r\n\r\n")
  results({"Not Found", ""}, ba.http.reason(404), ba.http.reason(999))
end)

it("nothing gets into a head that is no part of it", function()
  for _, header in ipairs {{A = "b\r\nC: d"}, {A = "b\n"}, {A = "\0"}, {["A\r\nB"] = "c"}, {["A b"] = "c"}, {[""] = "c"}, {["A:"] = "c"},
                           {{"A", "\r"}}, {{"A", {"fine", "\r"}}}, {{"A b", "c"}}} do
    local text, err, why = ba.http.response(200, header)
    results({nil, "invalidparam"}, text, err)
    ok(why:find "^header field 'A?", why)
    eq(ba.http.request("GET", "/", header), nil)
  end
  results({nil, "invalidparam", "method"}, ba.http.request("GET /", "/", {}))
  for _, target in ipairs {"", "a", "/a b", "/\r\n", "/\0", "*", "/#"} do
    results({nil, "invalidparam", "target"}, ba.http.request("GET", target, {}))
  end
  results({nil, "invalidparam", "reason"}, ba.http.response(200, {}, "a\r\nb: c"))
  raises("three digits", ba.http.response, 99, {})
  raises("string expected, got boolean", ba.http.response, 200, {A = true})
  raises("must be a string", ba.http.response, 200, {[5] = "x"})
  raises("{name, value}", ba.http.response, 200, {{"A", "b"}, 5})
  raises("table expected", ba.http.response, 200)
end)

check.job("a finalizer may close the socket at any moment", function()
  for _, chunked in ipairs {false, true} do
    for after = 1, 40 do
      local a, b = check.pair()
      local piece = ("x"):rep(chunked and 40 or 20000)
      local body = chunked and ("28\r\n" .. piece .. "\r\n"):rep(400) .. "0\r\n\r\n" or piece
      b:write("POST / HTTP/1.1\r\nHost: x\r\n" .. (chunked and "Transfer-Encoding: chunked" or "Content-Length: " .. #body) .. "\r\n\r\n" .. body)
      local r = reader(a, "request")
      ok(r:head(50000))
      local closer = setmetatable({}, {__gc = function() a:close() end})
      closer = nil
      collectgarbage("step", after)
      local got, err = whole(r)
      if not got then ok(err == "closed", err) end
      collectgarbage()
      b:close()
      a:close()
    end
  end
end)

check.job("a finalizer may ask for the next message while the trailers are told", function()
  local a, b = check.pair()
  b:write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" .. ("X-Sum: 9\r\n"):rep(90) .. "\r\n")
  local r = reader(a, "request")
  ok(r:head(50000))
  eq(r:body(nil, 50000), nil)
  local asked
  local list = check.with_finalizer(function() asked = select("#", r:head(0)) end, r.trailers, r)
  eq(flat(list), ("X-Sum=9|"):rep(89) .. "X-Sum=9")
  ok(asked)
  eq(#r:trailers(), 90)
end)
