-- require "httpc" with ws:// and wss://, and ba.socket.http2sock: WebSockets for clients.
local check = require "check"
local http = require "http"
local httpc = require "httpc"
local pki = require "pki"
local web = require "web"
local websocket = require "cosock.websocket"
local eq, ok, results, both = check.eq, check.ok, check.results, check.both
after_each(web.close)

-- Echoes frames; what else it is asked for stands in the target.
local function server(options)
  return web.serve(function(sock, head)
    if head.target:find "^/redirect" then
      web.answer(sock, 302, "", {Location = "/echo"})
      return
    elseif head.target == "/plain" then
      web.answer(sock, 200, "no WebSocket here")
      return
    elseif head.target == "/private" and head.header.authorization ~= "Basic " .. ba.b64encode "joe:secret" then
      web.answer(sock, 401, "who?", {["WWW-Authenticate"] = 'Basic realm="x"'})
      return
    elseif head.target == "/wrong" then
      sock:write(ba.http.response(101, {Upgrade = "websocket", Connection = "Upgrade", ["Sec-WebSocket-Accept"] = "x"}))
      return false
    end
    local early = head.target == "/early" and {header = {["X-Early"] = "1"}} or {}
    early.subprotocols = {"chat"}
    if not websocket.accept(sock, head, early) then return false end
    if head.target == "/early" then sock:write("first", true) end
    while true do
      local data, text = sock:read()
      if not data or not sock:write(data, text) then break end
    end
    return false
  end, options)
end

local function ws(port, path) return ("ws://127.0.0.1:%d%s"):format(port, path or "/echo") end

local function echo(sock)
  ok(sock:websocket())
  eq(sock:write("text", true), true)
  results({"text", true}, sock:read(5000))
  eq(sock:write "\0binary", true)
  results({"\0binary", false}, sock:read(5000))
end

both("a WebSocket in blocking mode", function()
  local h = httpc.create()
  eq(h:request {url = ws(server()), header = {["Sec-WebSocket-Protocol"] = "other, chat", Connection = "close"}}, true)
  eq(h:status(), 101)
  eq(h:header "sec-websocket-protocol", "chat")
  local sock <close>, rest = ba.socket.http2sock(h)
  eq(rest, nil)
  results({"notcon", true}, sock:state())
  echo(sock)
end)

check.job("a WebSocket for a cosocket, as in example 14", function()
  local h = httpc.create()
  eq(h:request {url = ws(server())}, true)
  eq(h:status(), 101)
  local done
  ba.socket.http2sock(h):event(function(sock)
    echo(sock)
    done = true
  end, "s")
  check.wait(function() return done end)
end)

both("frames right behind the answer are not lost", function()
  local h = httpc.create()
  eq(h:request {url = ws(server(), "/early")}, true)
  eq(h:header "x-early", "1")
  local sock <close> = ba.socket.http2sock(h)
  results({"first", true}, sock:read(5000))
  echo(sock)
end)

both("wss", function()
  local port = server {shark = pki.server()}
  local h = httpc.create {shark = pki.client()}
  eq(h:request {url = ("wss://localhost:%d/echo"):format(port), trusted = true}, true)
  eq(h:trusted(), true)
  local sock <close> = ba.socket.http2sock(h)
  ok(sock:cipher())
  echo(sock)
end)

both("users, redirects, wrappers", function()
  local port = server()
  local h = http.create()
  eq(h:request {url = ws(port, "/private"), user = "joe", password = "secret"}, true)
  eq(h:status(), 101)
  local sock <close> = ba.socket.http2sock(h)
  echo(sock)
  local moved = http.create()
  eq(moved:request {url = ws(port, "/redirect")}, true)
  results({101, ws(port)}, moved:status(), (moved:url()))
  local other <close> = ba.socket.http2sock(moved)
  echo(other)
end)

both("a server that will not", function()
  local port = server()
  local h <close> = httpc.create()
  eq(h:request {url = ws(port, "/plain")}, true)
  results({200, "no WebSocket here"}, h:status(), h:read "a")
  eq(h:request {url = ws(port, "/plain")}, true)
  local sock <close> = ba.socket.http2sock(h) -- then it is the plain connection
  eq(sock:websocket(), false)
  eq(check.read(sock, 17), "no WebSocket here")
  local wrong <close> = httpc.create()
  results({nil, "invalidresponse"}, wrong:request {url = ws(port, "/wrong")})
  results({nil, "invalidresponse"}, ba.socket.http2sock(wrong))
end)
