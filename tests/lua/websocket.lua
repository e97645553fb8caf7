-- ba.socket.websocket: what read and write do on a WebSocket (ba-api B.4, B.6, B.7)
local check = require "check"
local ws = require "ws"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait
local frame = ws.frame

-- f(sock, peer) with a WebSocket server in each mode; its peer is plain TCP.
local function every_mode(name, f, options)
  check.every_mode(name, function(sock, peer)
    ok(ba.socket.websocket(sock, {role = "server", table.unpack(options or {})}))
    f(sock, peer)
  end)
end

local function masked(payload, options)
  options = options or {}
  options.mask = options.mask or "\x12\x34\x56\x78"
  return frame(payload, options)
end

every_mode("text and binary, whole frames: two values", function(sock, peer)
  for _, n in ipairs {1, 2, 125, 126, 127, 1000, 8191, 8192} do
    local data = check.pattern(n)
    peer:write(masked(data))
    results({data, false}, sock:read())
    peer:write(masked(data, {op = "text"}))
    local got = table.pack(sock:read())
    eq(got.n, 2, "results")
    eq(got[1], data)
    eq(got[2], true)
  end
end)

every_mode("write gives one frame each", function(sock, peer)
  local state = {}
  for _, n in ipairs {1, 125, 126, 4096, 4097, 65535} do
    local data = check.pattern(n)
    eq(sock:write(data), true)
    eq(sock:write(data, true), true)
    eq(sock:write(data, false), true)
    for _, op in ipairs {"binary", "text", "binary"} do
      local f = ok(ws.read_frame(peer, state))
      eq(f.op, op)
      eq(f.fin, true)
      eq(f.masked, false)
      eq(f.payload, data)
    end
  end
  sock:write("0123456789", 3, 5)
  eq(ws.read_frame(peer, state).payload, "234")
  sock:write("0123456789", 3, 5, true)
  local f = ws.read_frame(peer, state)
  eq(f.payload, "234")
  eq(f.op, "text")
  sock:write("0123456789", -2, true)
  f = ws.read_frame(peer, state)
  eq(f.payload, "89")
  eq(f.op, "text")
  sock:write(42, true)
  eq(ws.read_frame(peer, state).payload, "42")
end)

every_mode("nothing to write, too much to write", function(sock, peer)
  eq(sock:write(""), false)
  eq(sock:write("", true), false)
  results({nil, "toomuchdata"}, sock:write(("x"):rep(65536)))
  eq(sock:write("still works"), true)
  eq(ws.read_frame(peer, {}).payload, "still works")
end)

every_mode("frames over 8 KiB in pieces, each with four values", function(sock, peer)
  for _, n in ipairs {8193, 30000, 65535} do
    local data, bytes = check.pattern(n), nil
    bytes = masked(data, {op = "text"})
    peer:write(bytes:sub(1, 3000))
    local parts, count, len = {}, 0, 0
    local part, text, at, total = sock:read()
    peer:write(bytes:sub(3001))
    repeat
      eq(text, true)
      eq(total, n)
      len = len + #part
      eq(at, len)
      parts[#parts + 1], count = part, count + 1
      if at < total then part, text, at, total = sock:read() end
    until len == n
    eq(table.concat(parts), data)
    ok(count > 1)
  end
end)

every_mode("a frame up to 8 KiB is held until it is whole", function(sock, peer)
  local data = check.pattern(8192)
  local bytes = masked(data)
  for _, n in ipairs {1, 5, 100, 8000} do
    peer:write(bytes:sub(1, n))
    results({nil, "timeout"}, sock:read(20))
    peer:write(bytes:sub(n + 1))
    local got = table.pack(sock:read())
    eq(got.n, 2)
    eq(got[1], data)
  end
end)

every_mode("a byte at a time, and all at once: one read, one frame", function(sock, peer)
  local bytes = masked("one") .. masked("", {op = "ping"}) .. masked("two", {op = "text"}) .. masked("") .. masked("three")
  local function expect()
    results({"one", false}, sock:read())
    results({"two", true}, sock:read())
    results({"three", false}, sock:read())
  end
  peer:write(bytes)
  expect()
  for i = 1, #bytes do
    peer:write(bytes:sub(i, i))
    ba.sleep(0)
  end
  expect()
  eq(ws.read_frame(peer, {}).op, "pong")
end)

every_mode("a fragmented message: each frame by itself, of the first one's type", function(sock, peer)
  peer:write(masked("a", {op = "text", fin = false}) .. masked("ping", {op = "ping"}) .. masked("b", {op = "continuation", fin = false}) ..
             masked("c", {op = "continuation"}) .. masked("d"))
  results({"a", true}, sock:read())
  results({"b", true}, sock:read())
  results({"c", true}, sock:read())
  results({"d", false}, sock:read())
  local pong = ws.read_frame(peer, {})
  eq(pong.op, "pong")
  eq(pong.payload, "ping")
end)

every_mode("pings are answered, pongs are not seen and do not lengthen a read", function(sock, peer)
  peer:write(masked("hello", {op = "ping"}) .. masked("", {op = "pong"}) .. masked("?", {op = "pong"}))
  results({nil, "timeout"}, sock:read(50))
  local pong = ws.read_frame(peer, {})
  eq(pong.op, "pong")
  eq(pong.payload, "hello")
  eq(sock:ping(), true)
  eq(sock:ping "how are you", true)
  local state = {}
  eq(ws.read_frame(peer, state).payload, "")
  local ping = ws.read_frame(peer, state)
  eq(ping.op, "ping")
  eq(ping.payload, "how are you")
  raises("at most 125 bytes", sock.ping, sock, ("x"):rep(126))
end)

-- What the peer gets after its bytes: the code of the Close, then the end.
local function close_code(peer)
  local state = {}
  local f = ok(ws.read_frame(peer, state))
  while f.op ~= "close" do f = ok(ws.read_frame(peer, state)) end
  local code = #f.payload >= 2 and string.unpack(">I2", f.payload) or nil
  results({nil, "socketclosed"}, peer:read(5000))
  return code
end

every_mode("the peer's Close: data before it, then the end with its code", function(sock, peer)
  peer:write(masked("last words") .. masked(string.pack(">I2", 1001) .. "going", {op = "close"}))
  results({"last words", false}, sock:read())
  results({nil, "socketclosed", 1001}, sock:read())
  results({nil, "socketclosed", 1001}, sock:read(10))
  eq(close_code(peer), 1001)
  eq(select(2, sock:state()), false)
  results({nil, "socketclosed"}, sock:write("too late"))
end)

every_mode("a Close without a code", function(sock, peer)
  peer:write(masked("", {op = "close"}))
  results({nil, "socketclosed", 1005}, sock:read())
  eq(close_code(peer), nil)
end)

every_mode("the end without a Close", function(sock, peer)
  peer:write(masked("x"))
  peer:close()
  results({"x", false}, sock:read())
  results({nil, "socketclosed"}, sock:read())
end)

every_mode("the end within a frame, or within a message", function(sock, peer)
  peer:write(masked("not all of it"):sub(1, -3))
  peer:close()
  results({nil, "socketreadfailed"}, sock:read())
end)

local broken = {
  {"an unknown opcode", frame("x", {op = 3, mask = true}), 1002, "socketreadfailed"},
  {"an unknown control opcode", frame("x", {op = 11, mask = true}), 1002, "socketreadfailed"},
  {"a reserved bit", frame("x", {rsv = 4, mask = true}), 1002, "socketreadfailed"},
  {"no mask", frame("x"), 1002, "socketreadfailed"},
  {"a fragmented ping", frame("x", {op = "ping", fin = false, mask = true}), 1002, "socketreadfailed"},
  {"a long ping", frame(("x"):rep(126), {op = "ping", mask = true}), 1002, "socketreadfailed"},
  {"nothing to continue", frame("x", {op = "continuation", mask = true}), 1002, "socketreadfailed"},
  {"a message within a message", frame("", {fin = false, mask = true}) .. frame("x", {mask = true}), 1002, "socketreadfailed"},
  {"a Close of one byte", frame("x", {op = "close", mask = true}), 1002, "socketreadfailed"},
  {"a Close with a code that is not to be sent", frame("\x03\xed", {op = "close", mask = true}), 1002, "socketreadfailed"},
  {"a frame of 65,536 bytes", frame("", {length = 65536, mask = true}), 1009, "toomuchdata"},
  {"a frame of 2^63 - 1 bytes", frame("", {length = math.maxinteger, mask = true}), 1009, "toomuchdata"},
  {"a frame of 2^63 bytes", "\x82\xff\x80\0\0\0\0\0\0\0abcd", 1002, "socketreadfailed"},
}

for _, case in ipairs(broken) do
  local name, bytes, code, err = table.unpack(case)
  check.both("refused: " .. name, function()
    local sock, peer = ws.server()
    peer:write(masked("before") .. bytes .. masked("behind"))
    results({"before", false}, sock:read())
    results({nil, err}, sock:read())
    results({nil, err}, sock:read())
    eq(select(2, sock:state()), false)
    results({nil, "socketwritefailed"}, sock:write("x"))
    eq(close_code(peer), code)
    sock:close()
    peer:close()
  end)
end

check.both("a client masks, and wants no masks", function()
  local sock, peer = ws.client()
  local state, masks = {}, {}
  for i = 1, 20 do
    sock:write(("x"):rep(i * 300))
    local f = ws.read_frame(peer, state)
    eq(f.masked, true)
    eq(f.payload, ("x"):rep(i * 300))
  end
  peer:write(frame "not masked")
  results({"not masked", false}, sock:read())
  peer:write(masked "masked")
  results({nil, "socketreadfailed"}, sock:read())
  local f = ws.read_frame(peer, state)
  eq(f.op, "close")
  eq(f.masked, true)
  eq(f.payload, "\x03\xea")
  sock:close()
  peer:close()
end)

every_mode("a write after the peer's Close fails each time", function(sock, peer)
  peer:write(masked("unread") .. masked("", {op = "close"}))
  wait(function() return not sock:write("x") end)
  for _ = 1, 300 do eq(sock:write("x"), nil) end -- so many that the job lets others run in between
  results({"unread", false}, sock:read())
end)

check.both("close says 1000 and waits for the answer", function()
  local sock, peer = ws.server()
  sock:write("before")
  sock:close()
  eq(sock:websocket(), false)
  results({"terminated", false}, sock:state())
  local state = {}
  eq(ws.read_frame(peer, state).payload, "before")
  local f = ws.read_frame(peer, state)
  eq(f.op, "close")
  eq(f.payload, "\x03\xe8")
  -- The connection stands: what is sent now is thrown away, the Close ends it.
  peer:write(masked "late" .. masked("ping", {op = "ping"}))
  results({nil, "timeout"}, peer:read(30))
  peer:write(masked("\x03\xe8", {op = "close"}))
  results({nil, "socketclosed"}, peer:read(5000))
  peer:close()
end)

check.both("state and kind", function()
  local sock, peer = check.pair()
  eq(sock:websocket(), false)
  raises("not a WebSocket", sock.ping, sock)
  raises("option 'role'", ba.socket.websocket, sock, {})
  raises("option 'role'", ba.socket.websocket, sock, {role = "peer"})
  raises("option 'maxframe'", ba.socket.websocket, sock, {role = "server", maxframe = 0})
  raises("option 'ping'", ba.socket.websocket, sock, {role = "server", ping = -1})
  raises("table expected", ba.socket.websocket, sock)
  eq(ba.socket.websocket(sock, {role = "server"}), true)
  eq(sock:websocket(), true)
  results({"notcon", true}, sock:state())
  local name
  sock:event(function(s) name = s:state() s:read() end, "s")
  eq(name, "exec")
  results({"read", true}, sock:state())
  sock:close()
  eq(sock:websocket(), false)
  results({nil, "closed"}, sock:ping())
  peer:close()
  results({nil, "invalidsocketcon"}, ba.socket.websocket(peer, {role = "server"}))
  peer:close()
end)

check.both("what was read ahead is the first frame", function()
  local peer, sock = check.pair()
  peer:write("head\r\n\r\n" .. masked("early"))
  eq(sock:read(), "head\r\n\r\n" .. masked("early"))
  peer:write(masked("waits") .. masked("behind"))
  ba.sleep(20)
  eq(sock:read(0), masked("waits") .. masked("behind"))
  peer:write(masked("now"))
  sock:setoption("tcp-nodelay", true)
  ok(ba.socket.websocket(sock, {role = "server"}))
  results({"now", false}, sock:read())
  sock:close()
  peer:close()
end)

check.both("both ends are ours", function()
  local client, server = ws.pair()
  for _, n in ipairs {1, 200, 8192, 65535} do
    local data = check.pattern(n)
    client:write(data, true)
    eq(check.read(server, n), data)
    server:write(data)
    eq(check.read(client, n), data)
  end
  client:close()
  results({nil, "socketclosed", 1000}, server:read())
  server:close()
end)

check.both("a limit of one's own", function()
  local sock, peer = ws.server {maxframe = 100000}
  local data = check.pattern(100000)
  peer:write(masked(data))
  eq(check.read(sock, #data), data)
  eq(sock:write(data), true)
  eq(ws.read_frame(peer, {}).payload, data)
  peer:write(masked(data .. "x"))
  results({nil, "toomuchdata"}, sock:read())
  sock:close()
  peer:close()
end)

check.job("a peer that does not read: write waits, in order, and messages stay whole", function()
  local client, server = ws.pair()
  local block, n, written = check.pattern(60000), 300, 0 -- more than the kernel may take
  server:event(function(s)
    for _ = 1, n do
      if not s:write(block) then return end
      written = written + 1
    end
  end, "s")
  check.settled(function() return written end)
  ok(written < n, "write waits")
  for _ = 1, n do eq(check.read(client, #block), block) end
  wait(function() return written == n end)
  client:close()
  server:close()
end)

check.job("a job writes to a cosocket: all of a message or nothing of it is taken", function()
  local client, server = ws.pair()
  server:event(function(s) s:read() end, "s")
  local block, sent, refused = check.pattern(50000), 0, nil
  repeat
    ba.sleep(0)
    local taken, queued = server:write(block, true)
    if taken then sent = sent + 1 else refused = queued end
  until refused
  eq(math.type(refused), "integer")
  for _ = 1, sent do eq(check.read(client, #block), block) end
  client:close()
  server:close()
end)

check.job("pings are answered while nobody reads", function()
  local sock, peer = ws.server()
  peer:write(masked("a") .. masked("1", {op = "ping"}))
  eq(ws.read_frame(peer, {}).payload, "1")
  results({"a", false}, sock:read())
  sock:close()
  peer:close()
end)

check.job("a peer that only pings and reads nothing costs bounded memory", function()
  local sock, peer = ws.server()
  local pings, sent = masked(("p"):rep(125), {op = "ping"}):rep(500), 0
  local over
  peer:event(function(s)
    for _ = 1, 200 do
      if not s:write(pings) then return end
      sent = sent + 1
    end
    s:write(masked("end"))
    over = true
  end, "s")
  results({"end", false}, sock:read(10000))
  wait(function() return over end)
  sock:close()
  peer:close()
end)

describe("messages", function()
  check.both("whole, however they are cut", function()
    local sock, peer = ws.server {messages = true}
    peer:write(masked("a", {op = "text", fin = false}) .. masked("x", {op = "ping"}) .. masked("b", {op = "continuation", fin = false}) ..
               masked("", {op = "continuation", fin = false}) .. masked("c", {op = "continuation"}) .. masked("") .. masked("", {op = "text"}) .. masked("d"))
    results({"abc", true}, sock:read())
    results({"", false}, sock:read())
    results({"", true}, sock:read())
    results({"d", false}, sock:read())
    local big = check.pattern(500000)
    peer:event(function(s)
      s:write(masked(big:sub(1, 200000), {fin = false}))
      s:write(masked(big:sub(200001), {op = "continuation"}))
      s:read()
      s:read()
    end, "s")
    results({big, false, n = 2}, sock:read())
    sock:close()
    peer:close()
  end)

  check.both("empty ones are sent", function()
    local client, server = ws.pair {messages = true}
    eq(client:write("", true), true)
    eq(client:write(""), true)
    eq(client:write("x"), true)
    results({"", true}, server:read())
    results({"", false}, server:read())
    results({"x", false}, server:read())
    local big = check.pattern(300000)
    eq(client:write(big), true)
    results({big, false}, server:read())
    client:close()
    server:close()
  end)

  check.both("too long", function()
    local sock, peer = ws.server {messages = true, maxsize = 10}
    peer:write(masked("0123456789"))
    results({"0123456789", false}, sock:read())
    peer:write(masked("01234", {fin = false}) .. masked("56789", {op = "continuation", fin = false}) .. masked("x", {op = "continuation"}))
    results({nil, "toomuchdata"}, sock:read())
    eq(close_code(peer), 1009)
    sock:close()
    peer:close()
  end)

  check.both("text is UTF-8", function()
    local sock, peer = ws.server {messages = true}
    peer:write(masked("\xce", {op = "text", fin = false}) .. masked("\xba", {op = "continuation"}))
    results({"κ", true}, sock:read())
    peer:write(masked("\xce\xba\xff", {op = "text"}))
    results({nil, "socketreadfailed"}, sock:read())
    eq(close_code(peer), 1007)
    sock:close()
    peer:close()
  end)
end)

describe("keepalive", function()
  check.job("a ping when it is quiet, and again", function()
    local sock, peer = ws.server {ping = 0.05}
    local state = {}
    for _ = 1, 3 do
      local f = ws.read_frame(peer, state)
      eq(f.op, "ping")
      peer:write(masked(f.payload, {op = "pong"}))
    end
    sock:close()
    peer:close()
  end)

  check.job("no answer: the connection ends", function()
    local sock, peer = ws.server {ping = 0.02}
    results({nil, "socketreadfailed", "ETIMEDOUT"}, sock:read())
    sock:close()
    peer:close()
  end)
end)

describe("relay", function()
  local function bridge(text)
    local client, a = ws.pair {maxframe = 1 << 20}
    local b, server = check.pair()
    local outcome = {}
    ba.thread.run(function() outcome.result, outcome.err = ba.socket.relay(a, b, {text = text}) outcome.over = true end)
    wait(function() return a:state() == "terminated" end)
    return client, server, outcome
  end

  check.both("WebSocket to TCP and back", function()
    local client, server, outcome = bridge()
    local data = check.pattern(300000)
    server:event(function(s)
      eq(check.read(s, #data), data)
      s:write(data)
      s:read()
    end, "s")
    ba.thread.run(function()
      for i = 1, #data, 50000 do client:write(data:sub(i, i + 49999), true) end
    end)
    eq(check.read(client, #data), data)
    client:close()
    wait(function() return outcome.over end)
    eq(outcome.result.reason, "eof")
    eq(outcome.result.first, "a")
    eq(outcome.result.a_to_b, #data)
    eq(outcome.result.b_to_a, #data)
  end)

  check.both("text, and the TCP side ends first", function()
    local client, server, outcome = bridge(true)
    server:write("hello")
    results({"hello", true}, client:read())
    server:close()
    results({nil, "socketclosed", 1000}, client:read())
    client:close()
    wait(function() return outcome.over end)
    eq(outcome.result.reason, "eof")
    eq(outcome.result.first, "b")
  end)

  check.both("a frame is not waited for", function()
    local sock, peer = ws.server()
    local b, server = check.pair()
    ba.socket.relay(sock, b, {detach = true})
    local bytes = masked "123456789"
    peer:write(bytes:sub(1, 8))
    eq(check.read(server, 2), "12")
    peer:write(bytes:sub(9))
    eq(check.read(server, 7), "3456789")
    peer:close()
    server:close()
  end)

  -- client -TCP- a | relay | near -WebSocket- far | relay | b -TCP- server. The relay between two sockets of the
  -- test shuts its client's side when the client has ended, and the answer still comes back.
  check.both("half-closed, where both ends agree on it", function()
    local client, front = check.pair()
    local back, a = check.pair()
    local near, far = ws.pair {halfclose = true}
    local b, server = check.pair()
    local first, last
    ba.socket.relay(a, near, {detach = true})
    ba.socket.relay(far, b, {detach = true, on_close = function(r) last = r end})
    -- Its end becomes the end of what `a` reads, while the other way stays open.
    ba.socket.relay(front, back, {detach = true, on_close = function(r) first = r end})
    client:write("question")
    eq(server:read(), "question")
    client:close()
    results({nil, "socketclosed"}, server:read())
    server:close()
    wait(function() return first and last end)
    eq(first.reason, "eof")
    eq(last.reason, "eof")
    eq(last.first, "a")
  end)
end)

describe("over TLS", function()
  local pki = require "pki"
  check.both("read, write, close and the methods of TLS", function()
    local accepted
    local listener = assert(check.in_job(ba.socket.bind, 0, {intf = "127.0.0.1", shark = pki.server()}))
    listener:event(function(s) accepted = s:accept() end, "r")
    local _, port = listener:sockname()
    local sock = assert(check.in_job(ba.socket.connect, "127.0.0.1", port, {shark = pki.client()}))
    wait(function() return accepted end)
    listener:close()
    local client, server = ws.pair({}, function() return sock, accepted end)
    local data = check.pattern(65535)
    for _ = 1, 10 do
      client:write(data, true)
      eq(check.read(server, #data), data)
      server:write(data)
      eq(check.read(client, #data), data)
    end
    eq(client:trusted(), true)
    ok(client:cipher())
    client:maxsize(1000)
    client:close()
    results({nil, "socketclosed", 1000}, server:read())
    server:close()
  end)
end)

describe("each role, each mode", function()
  local pki = require "pki"

  -- What the far end says; it may use the same calls.
  local function talk(sock, role, messages)
    ok(ba.socket.websocket(sock, {role = role, messages = messages}))
    eq(sock:websocket(), true)
    for _, n in ipairs {1, 126, 5000, 65535} do
      for _, text in ipairs {true, false} do
        local data = text and ("x"):rep(n) or check.pattern(n)
        eq(sock:write(data, text), true)
        local got, is_text = sock:read()
        if messages then eq(got, data) else eq(got .. check.read(sock, n - #got), data) end
        eq(is_text, text)
      end
    end
  end

  for _, role in ipairs {"client", "server"} do
    for _, secure in ipairs {false, true} do
      for _, messages in ipairs {false, true} do
        local name = ("%s, %s, %s"):format(role, secure and "wss" or "ws", messages and "messages" or "frames")
        check.every_mode(name, function(sock, peer)
          local far
          peer:event(function(s)
            local other = role == "client" and "server" or "client"
            if secure then ok(s:upgrade(other == "server" and pki.server() or pki.client())) end
            ok(ba.socket.websocket(s, {role = other, messages = messages}))
            while true do
              local data, text = s:read()
              if not data then
                far = {data, text}
                break
              end
              s:write(data, text)
            end
          end, "s")
          if secure then ok(sock:upgrade(role == "server" and pki.server() or pki.client())) end
          talk(sock, role, messages)
          eq(sock:close(), true)
          wait(function() return far end)
          results({nil, "socketclosed"}, table.unpack(far, 1, 2))
        end)
      end
    end
  end
end)
