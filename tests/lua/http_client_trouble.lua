-- Servers that misbehave towards require "httpc": what the caller is told, and that nothing stays behind.
local check = require "check"
local httpc = require "httpc"
local web = require "web"
local eq, ok, results, both = check.eq, check.ok, check.results, check.both
after_each(web.close)

-- A server that answers the first request with the text, cut at "|": pieces that come one after the other. Then it
-- closes, or with `hold` waits for the client to go.
local function raw(text, hold)
  return web.serve(function(sock, head, reader)
    if head.body ~= "none" and head.expect == false then web.body(reader) end
    for piece in text:gmatch "[^|]+" do
      sock:write(piece)
      ba.sleep(2)
    end
    if hold then sock:read() end
    return false
  end)
end

local function get(port, what, ms)
  local h <close> = httpc.create {maxsize = 100000}
  h:timeout(ms or 5000)
  local done, err = h:request {url = web.url(port)}
  if not done then return nil, err end
  local status = h:status()
  local body, why = h:read(what or "a")
  local again, same = h:read(what or "a")
  if not body then results({nil, why}, again, same) end -- it stays so
  results({status}, h:status())
  return body, why
end

-- What writing gives in the end when the server reads no body; first, if given, is what it does at the request.
-- It stays until over.over.
local function upload_unread(h, over, first)
  local port = web.serve(function(sock)
    if first then first(sock) end
    check.wait(function() return over.over end)
    return false
  end)
  eq(h:request {url = web.url(port), method = "PUT"}, true)
  local done, err
  repeat done, err = h:write(check.bulk("x", 1000000)) until not done
  return done, err
end

-- To be closed: over.over is true from then on.
local function at_end() return setmetatable({}, {__close = function(t) t.over = true end}) end

local OK = "HTTP/1.1 200 OK\r\n"

both("answers in pieces", function()
  eq(get(raw((OK .. "Content-Length: 5\r\n\r\nhello"):gsub(".", "%0|"))), "hello")
  eq(get(raw((OK .. "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\nA: b\r\n\r\n"):gsub(".", "%0|"))), "hello")
  eq(get(raw(OK .. "\r\nhel|lo")), "hello")
end)

both("what is no HTTP", function()
  for _, text in ipairs {"SSH-2.0-x\r\n", "HTTP/1.1 2 OK\r\n\r\n", "HTTP/2 200 OK\r\n\r\n", OK .. "no colon\r\n\r\n", OK .. "A : b\r\n\r\n", OK .. "A: b\r\n c\r\n\r\n",
                         OK .. "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", OK .. "Content-Length: -1\r\n\r\n",
                         OK .. "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "\r\n\r\n\0\0\0\0",
                         OK .. "X: " .. ("x"):rep(9000) .. "\r\n\r\n", OK .. ("X: y\r\n"):rep(101) .. "\r\n"} do
    results({nil, "invalidresponse"}, get(raw(text, true)))
  end
end)

both("a head that does not come, or ends too early", function()
  results({nil, "timeout"}, get(raw("", true), "a", 20))
  results({nil, "timeout"}, get(raw(OK .. "X: y\r\n", true), "a", 20))
  results({nil, "timeout"}, get(raw(("x|"):rep(60), true), "a", 20)) -- for all of it
  results({nil, "socketclosed"}, get(raw "|"))
  results({nil, "invalidresponse"}, get(raw(OK .. "X: y")))
end)

both("a body that stops, or ends too early", function()
  results({nil, "timeout"}, get(raw(OK .. "Content-Length: 5\r\n\r\nhel", true), "a", 20))
  results({nil, "invalidresponse"}, get(raw(OK .. "Content-Length: 5\r\n\r\nhel")))
  results({nil, "invalidresponse"}, get(raw(OK .. "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")))
  results({nil, "invalidresponse"}, get(raw(OK .. "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX")))
  results({nil, "invalidresponse"}, get(raw(OK .. "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", true)))
  results({nil, "invalidresponse"}, get(raw(OK .. "Transfer-Encoding: chunked\r\n\r\n-5\r\n", true)))
end)

both("what came before the break is given first", function()
  local port = raw(OK .. "Content-Length: 8\r\n\r\nhello")
  local h <close> = httpc.create()
  eq(h:request {url = web.url(port)}, true)
  eq(h:read(4), "hell")
  eq(h:read(4), "o")
  results({nil, "invalidresponse"}, h:read(4))
  results({nil, "invalidresponse"}, h:read())
end)

both("a body without end", function()
  for _, head in ipairs {OK .. "\r\n", OK .. "Transfer-Encoding: chunked\r\n\r\n", OK .. "Content-Length: 999999999999999\r\n\r\n"} do
    local left
    local port = web.serve(function(sock)
      sock:write(head)
      local piece = head:find "chunked" and "400\r\n" .. ("x"):rep(1024) .. "\r\n" or ("x"):rep(1024)
      while sock:write(piece) do end
      left = true
      return false
    end)
    results({nil, "toomuchdata"}, get(port))
    check.wait(function() return left end, "the server to notice")
    local h <close> = httpc.create()
    eq(h:request {url = web.url(port)}, true)
    for _ = 1, 100 do eq(#h:read(10000), 10000) end
    left = nil
    eq(h:request {url = web.url(raw(OK .. "Content-Length: 0\r\n\r\n"))}, true)
    check.wait(function() return left end, "the server to notice")
  end
end)

both("a slow rest that nobody wants does not hold up the next request", function()
  local over
  local port = web.serve(function(sock)
    sock:write(OK .. "Content-Length: 100000\r\n\r\n")
    while not over and sock:write "x" do ba.sleep(10) end
    return false
  end)
  local h <close> = httpc.create()
  eq(h:request {url = web.url(port)}, true)
  eq(h:request {url = web.url(raw(OK .. "Content-Length: 2\r\n\r\nok"))}, true)
  eq(h:read "a", "ok")
  over = true
end)

both("a refusal whose page does not come does not keep the answer to a challenge", function()
  local port = web.serve(function(sock, head)
    if head.header.authorization then return web.answer(sock, 200, "in") end
    sock:write 'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 9\r\n\r\npart'
    sock:read() -- until the client goes
    return false
  end)
  local h <close> = httpc.create()
  eq(h:request {url = web.url(port), user = "a", password = "b"}, true)
  results({200, "in"}, h:status(), h:read "a")
end)

both("a server that does not read", function()
  local over <close> = at_end()
  local h <close> = httpc.create()
  h:timeout(50)
  results({nil, "timeout"}, upload_unread(h, over))
  results({nil, "timeout"}, h:write "x")
  results({nil, "timeout"}, h:status())
end)

both("a server that answers and does not read", function()
  local over <close> = at_end()
  local h <close> = httpc.create()
  h:timeout(1000)
  results({nil, 507}, upload_unread(h, over, function(sock) web.answer(sock, 507, "full") end))
  eq(h:status(), 507)
end)

both("a reset", function()
  local port = web.serve(function(sock)
    sock:write(OK .. "Content-Length: 100\r\n\r\nhello")
    sock:close()
  end)
  -- Unread input at the time of the close makes it one.
  local h <close> = httpc.create()
  ok(h:request {url = web.url(port), method = "PUT", size = 10000000} == true)
  local done, err
  for _ = 1, 100 do
    done, err = h:write(("x"):rep(100000))
    if not done then break end
  end
  ok(not done and (err == "socketwritefailed" or err == "socketreadfailed" or err == "socketclosed"), err)
end)

both("data that nobody asked for ends the connection", function()
  local counts = {}
  local port = web.serve(function(sock) sock:write(OK .. "Content-Length: 2\r\n\r\nok" .. OK .. "Content-Length: 6\r\n\r\nforged") end, nil, counts)
  local h <close> = httpc.create()
  for i = 1, 3 do
    eq(h:request {url = web.url(port)}, true)
    eq(h:read "a", "ok")
    eq(counts.connections, i)
  end
end)

both("somebody closes it while it waits", function()
  local h = httpc.create()
  local port = web.serve(function(sock)
    ba.thread.run(function() h:close() end)
    sock:read()
    return false
  end)
  results({nil, "closed"}, h:request {url = web.url(port)})
end)

both("somebody closes it while it writes", function()
  local over <close> = at_end()
  local h = httpc.create()
  results({nil, "closed"}, upload_unread(h, over, function()
    ba.thread.run(function() h:close() end)
  end))
  results({nil, "closed"}, h:status())
end)
