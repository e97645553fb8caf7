-- cosock.websocket: the opening handshake of WebSockets (RFC 6455 4)
local check = require "check"
local ws = require "ws"
local websocket = require "cosock.websocket"
local eq, ok, results, wait = check.eq, check.ok, check.results, check.wait

local KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" -- RFC 6455 1.3

local function request(changes, first)
  local fields = {Host = "here", Upgrade = "websocket", Connection = "Upgrade", ["Sec-WebSocket-Key"] = KEY, ["Sec-WebSocket-Version"] = "13"}
  for name, value in pairs(changes or {}) do fields[name] = value or nil end
  local lines = {first or "GET /chat HTTP/1.1"}
  for name, value in pairs(fields) do lines[#lines + 1] = name .. ": " .. value end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

-- The socket of the server with the head of this request, and its peer.
local function asked(text)
  local peer, sock = check.pair()
  peer:write(text)
  return sock, ok(ba.http.reader(sock, "request"):head(50000)), peer
end

local function answer_to(peer)
  local head = ok(ba.http.reader(peer, "response"):head(50000))
  return head.status, head.header
end

check.both("a request is accepted, and the socket is a WebSocket", function()
  local sock, head, peer = asked(request() .. ws.frame("early", {mask = true}))
  local agreed = ok(websocket.accept(sock, head, {header = {["X-More"] = "yes"}}))
  eq(agreed.subprotocol, nil)
  eq(sock:websocket(), true)
  results({"early", false}, sock:read())
  local status, header = answer_to(peer)
  eq(status, 101)
  eq(header["sec-websocket-accept"], ACCEPT)
  eq(header["upgrade"], "websocket")
  eq(header["x-more"], "yes")
  eq(header["sec-websocket-protocol"], nil)
  sock:write("hello", true)
  eq(ws.read_frame(peer, {}).payload, "hello")
  sock:close()
  peer:close()
end)

check.both("words in any case, among others", function()
  local sock, head, peer = asked(request {Upgrade = "h2c, WebSocket", Connection = "keep-alive, UPGRADE"})
  ok(websocket.accept(sock, head))
  eq(answer_to(peer), 101)
  sock:close()
  peer:close()
end)

local wrong = {
  {"no Upgrade", request {Upgrade = false}, 426},
  {"another Upgrade", request {Upgrade = "h2c"}, 426},
  {"no Connection", request {Connection = "keep-alive"}, 426},
  {"no key", request {["Sec-WebSocket-Key"] = false}, 400},
  {"a short key", request {["Sec-WebSocket-Key"] = "c2hvcnQ="}, 400},
  {"a key that is no base64", request {["Sec-WebSocket-Key"] = "!!!!!!!!!!!!!!!!!!!!!!=="}, 400},
  {"no version", request {["Sec-WebSocket-Version"] = false}, 426},
  {"another version", request {["Sec-WebSocket-Version"] = "8"}, 426},
  {"another method", request(nil, "OPTIONS /chat HTTP/1.1"), 400},
  {"HTTP/1.0", request(nil, "GET /chat HTTP/1.0"), 400},
  {"a body", request {["Content-Length"] = "3"} .. "abc", 400},
  {"another origin", request {Origin = "https://elsewhere"}, 403, {origins = {"https://here"}}},
  {"no common subprotocol", request {["Sec-WebSocket-Protocol"] = "a, b"}, 400, {subprotocols = {"c"}, required = true}},
}

for _, case in ipairs(wrong) do
  local name, text, status, options = table.unpack(case)
  check.job("refused: " .. name, function()
    local sock, head, peer = asked(text)
    local agreed, err, code, why = websocket.accept(sock, head, options)
    results({nil, "badrequest", status}, agreed, err, code)
    eq(type(why), "string")
    local got, header = answer_to(peer)
    eq(got, status)
    if status == 426 then eq(header["sec-websocket-version"], "13") end
    eq(sock:state(), "terminated")
    peer:close()
  end)
end

check.job("a subprotocol: the client's order decides", function()
  for list, expected in pairs {["b, a"] = "b", ["x,a"] = "a", ["x"] = "none"} do
    local sock, head, peer = asked(request {["Sec-WebSocket-Protocol"] = list})
    local agreed = ok(websocket.accept(sock, head, {subprotocols = {"a", "b"}}))
    eq(agreed.subprotocol or "none", expected)
    eq(select(2, answer_to(peer))["sec-websocket-protocol"] or "none", expected)
    sock:close()
    peer:close()
  end
end)

check.job("origins: those that are named, and who names none", function()
  for _, origin in ipairs {"https://here", "HTTPS://Here", false} do
    local _, head, peer = asked(request {Origin = origin})
    ok(websocket.answer(head, {origins = {"https://there", "https://here"}}))
    peer:close()
  end
end)

-- A server that answers with this text; the client's side.
local function connect(text, options)
  local sock, peer = check.pair()
  peer:event(function(s)
    local head = ok(ba.http.reader(s, "request"):head(50000))
    local key = ba.crypto.hash "sha1"(head.header["sec-websocket-key"] .. "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")(true, "b64")
    s:write((text:gsub("KEY", key)))
    s:read()
  end, "s")
  local agreed, err, why = websocket.connect(sock, "here:81", "/path?x=1", options)
  local is = sock:websocket()
  sock:close()
  return agreed, err, why, is
end

local GOOD = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: KEY\r\n"

check.job("a client's side", function()
  local agreed, _, _, is = connect(GOOD .. "\r\n")
  eq(ok(agreed).subprotocol, nil)
  eq(is, true)
  ok(connect("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" .. GOOD .. "\r\n"))
  eq(ok(connect(GOOD .. "Sec-WebSocket-Protocol: b\r\n\r\n", {subprotocols = {"a", "b"}})).subprotocol, "b")
end)

check.job("answers that break the promise", function()
  local bad = {
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    (GOOD:gsub("KEY", "bm90IHRoZSBrZXkgYXQgYWxsISE=")) .. "\r\n",
    (GOOD:gsub("Upgrade: [^\r]*\r\n", "")) .. "\r\n",
    (GOOD:gsub("Connection: [^\r]*\r\n", "")) .. "\r\n",
    GOOD .. "Sec-WebSocket-Protocol: c\r\n\r\n",
    GOOD .. "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    "no HTTP at all\r\n\r\n",
  }
  for i, text in ipairs(bad) do
    local agreed, err, why, is = connect(text, {subprotocols = {"a"}})
    eq(agreed, nil, i)
    eq(err, "invalidresponse", i)
    ok(why, i)
    eq(is, false, i)
  end
  local agreed, err = connect(GOOD .. "\r\n", {subprotocols = {"a"}, required = true})
  results({nil, "invalidresponse"}, agreed, err)
end)

check.both("both sides are ours", function()
  local client, server = check.pair()
  local done
  ba.thread.run(function()
    local head = ok(ba.http.reader(server, "request"):head(50000))
    eq(head.target, "/path")
    done = ok(websocket.accept(server, head, {subprotocols = {"echo"}, messages = true}))
    server:write(server:read())
  end)
  eq(ok(websocket.connect(client, "here", "/path", {subprotocols = {"echo"}, messages = true})).subprotocol, "echo")
  client:write ""
  results({"", false}, client:read())
  eq(done.subprotocol, "echo")
  client:close()
  server:close()
end)

describe("compression", function()
  local function agreed(offer, deflate)
    local _, head, peer = asked(request {["Sec-WebSocket-Extensions"] = offer})
    local answer = ok(websocket.answer(head, {deflate = deflate}))
    peer:close()
    return answer.header["Sec-WebSocket-Extensions"], answer.deflate
  end

  check.job("what is agreed on", function()
    local NONE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    local yes = {takeover = true}
    for _, case in ipairs {
      {"permessage-deflate", nil, nil},
      {false, true, nil},
      {"permessage-deflate", true, NONE},
      {"permessage-deflate; client_max_window_bits", true, NONE},
      {"x-other, permessage-deflate; client_max_window_bits=10", true, NONE .. "; client_max_window_bits=10"},
      {"permessage-deflate; server_max_window_bits=8", true, nil}, -- zlib cannot
      {"permessage-deflate; server_max_window_bits=8, permessage-deflate", true, NONE},
      {"permessage-deflate; server_max_window_bits=\"12\"", true, NONE .. "; server_max_window_bits=12"},
      {"permessage-deflate; server_max_window_bits=12", {takeover = true, bits = 9}, "permessage-deflate; server_max_window_bits=9"},
      {"permessage-deflate; client_max_window_bits", {bits = 10}, NONE .. "; server_max_window_bits=10; client_max_window_bits=10"},
      {"permessage-deflate", yes, "permessage-deflate"},
      {"permessage-deflate; client_no_context_takeover", yes, "permessage-deflate; client_no_context_takeover"},
      {"permessage-deflate; server_no_context_takeover", yes, "permessage-deflate; server_no_context_takeover"},
      {"permessage-deflate; server_no_context_takeover=1", true, nil},
      {"permessage-deflate; server_max_window_bits=16", true, nil},
      {"permessage-deflate; server_max_window_bits=010", true, nil},
      {"permessage-deflate; server_max_window_bits", true, nil},
      {"permessage-deflate; unknown", true, nil},
      {"permessage-deflate; client_max_window_bits; client_max_window_bits", true, nil},
    } do
      local field, deflate = agreed(case[1], case[2])
      eq(field, case[3], case[1])
      eq(deflate ~= nil, case[3] ~= nil, case[1])
    end
  end)

  check.job("answers that are none to our offer", function()
    for _, field in ipairs {"permessage-deflate", "permessage-deflate; server_no_context_takeover; client_max_window_bits=8", "x-other",
                            "permessage-deflate; server_no_context_takeover; client_max_window_bits", "permessage-deflate; a=b"} do
      local got, err = connect(GOOD .. "Sec-WebSocket-Extensions: " .. field .. "\r\n\r\n", {deflate = true, messages = true})
      results({nil, "invalidresponse"}, got, err)
    end
    ok(connect(GOOD .. "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n", {deflate = true, messages = true}).deflate)
    eq(ok(connect(GOOD .. "\r\n", {deflate = true, messages = true})).deflate, nil)
  end)

  for name, deflate in pairs {plain = true, takeover = {takeover = true}, ["small window"] = {takeover = true, bits = 9}} do
    check.both("messages, " .. name, function()
      local client, server = check.pair()
      local options = {deflate = deflate, messages = true, maxsize = 2000000}
      local over
      ba.thread.run(function()
        ok(websocket.accept(server, ok(ba.http.reader(server, "request"):head(50000)), options))
        while true do
          local data, text = server:read()
          if not data or not server:write(data, text) then break end
        end
        over = true
      end)
      ok(ok(websocket.connect(client, "here", "/", options)).deflate)
      for _, data in ipairs {"x", "", ("text "):rep(100), check.pattern(70000), ba.rndbs(60000), check.bulk("z", 2000000)} do
        ok(client:write(data))
        results({data, false}, client:read())
      end
      client:write(("text "):rep(100), true)
      results({("text "):rep(100), true}, client:read())
      client:write(check.bulk("z", 2000001)) -- small on its way, too long when it is large again
      results({nil, "socketclosed", 1009}, client:read())
      wait(function() return over end)
      client:close()
      server:close()
    end)
  end

  check.job("options", function()
    local sock, peer = check.pair()
    check.raises("option 'deflate'", ba.socket.websocket, sock, {role = "server", deflate = {}})
    check.raises("option 'deflate'", ba.socket.websocket, sock, {role = "server", messages = true, deflate = true})
    check.raises("send_bits", ba.socket.websocket, sock, {role = "server", messages = true, deflate = {send_bits = 8}})
    check.raises("deflate.bits", websocket.offer, {}, {deflate = {bits = 16}})
    sock:close()
    peer:close()
  end)
end)
