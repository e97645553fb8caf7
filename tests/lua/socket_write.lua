-- write and flow control (ba-api A.5)
local check = require "check"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait

local MB = 1000000

-- Reads everything, slowly at first, so that the writer meets a full connection.
local function slow_sink(parts, finished)
  return function(s)
    for _ = 1, 5 do
      ba.sleep(5)
      parts[#parts + 1] = s:read()
    end
    while true do
      local data = s:read()
      if not data then break end
      parts[#parts + 1] = data
    end
    finished[1] = true
  end
end

check.job("what write takes", function()
  local a, b = check.pair()
  eq(a:write("abc"), true)
  eq(a:write(123), true)
  eq(a:write(1.5), true)
  eq(a:write("0123456789", 3), true)
  eq(a:write("0123456789", 3, 5), true)
  eq(a:write("0123456789", -2), true)
  eq(a:write("0123456789", nil, nil), true)
  eq(a:write("bin", false), true)
  eq(a:write("txt", true), true)
  local expected = "abc1231.5" .. "23456789" .. "234" .. "89" .. "0123456789" .. "bintxt"
  eq(check.read(b, #expected), expected)
  a:close()
  b:close()
end)

check.job("nothing to write is false", function()
  local a, b = check.pair()
  eq(a:write(""), false)
  eq(a:write("abc", 4), false)
  eq(a:write("abc", 3, 2), false)
  a:write("x")
  eq(b:read(), "x")
  a:close()
  b:close()
end)

check.job("wrong arguments raise", function()
  local a, b = check.pair()
  raises("string expected", a.write, a)
  raises("string expected", a.write, a, {})
  raises("string expected", a.write, a, nil)
  raises("expected", a.write, a, "x", {})
  raises("socket", a.write, "x")
  a:close()
  b:close()
end)

check.both("closed or never connected: an error value, not an error", function()
  local a, b = check.pair()
  a:close()
  results({nil, "closed"}, a:write("x"))
  b:close()
  local s = ba.socket.event(function(s) s:disable() end)
  local sent, err = s:write("x")
  eq(sent, nil)
  eq(type(err), "string")
  s:close()
  results({nil, "closed"}, s:write("x"))
end)

check.job("writing to a peer that has gone ends in an error string", function()
  local a, b = check.pair()
  b:close()
  local sent, err
  wait(function()
    sent, err = a:write(("x"):rep(1000))
    return not sent
  end)
  eq(type(err), "string")
  ok(err == "socketclosed" or err == "socketwritefailed", err)
  a:close()
end)

check.cosocket("small writes never suspend", function(sock)
  local listener, port = check.listen(function(s) while s:read() do end end)
  ok(ba.socket.connect("127.0.0.1", port))
  local others = 0
  ba.thread.run(function() others = others + 1 end)
  for _ = 1, 100 do eq(sock:write(("x"):rep(100)), true) end
  eq(others, 0)
  listener:close()
end)

check.both("10 MB through an echo server and back", function()
  local listener, port = check.listen(check.echo)
  local data = check.pattern(10 * MB)
  check.in_cosocket(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    ba.socket.event(function()
      eq(s:write(data), true)
    end)
    local got = check.read(s, #data)
    eq(#got, #data)
    ok(got == data, "bytes differ")
  end)
  listener:close()
end)

for _, mode in ipairs {"r", "s"} do
  check.job("10 MB echoed in mode " .. mode, function()
    local a, b = check.pair()
    b:event(check.echo, mode)
    local data = check.pattern(10 * MB)
    local sent
    ba.thread.run(function() sent = a:write(data) end)
    local got = check.read(a, #data)
    ok(got == data, "bytes differ")
    eq(sent, true)
    a:close()
  end)
end

check.job("example 8: jobs that write keep the order of the data", function()
  local a, b = check.pair()
  local data = check.pattern(10 * MB)
  b:event(function(sock)
    while true do
      local data = sock:read()
      if not data then break end
      ba.thread.run(function() sock:write(data) end)
    end
  end, "r")
  ba.thread.run(function() a:write(data) end)
  local got = check.read(a, #data)
  ok(got == data, "bytes differ")
  a:close()
end)

check.both("a writer is suspended while the peer does not read, and goes on", function()
  local parts, finished, sent = {}, {}, nil
  local go
  local listener, port = check.listen(function(s)
    wait(function() return go end)
    slow_sink(parts, finished)(s)
  end)
  local data = check.pattern(20 * MB)
  local sock = ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    sent = s:write(data)
  end)
  wait(function() return sock:state() == "write" end)
  results({"write", true}, sock:state())
  eq(sent, nil)
  go = true
  wait(function() return finished[1] end)
  eq(sent, true)
  ok(table.concat(parts) == data, "bytes differ")
  listener:close()
end)

check.both("many writers to one socket, first come first served", function()
  local parts, finished = {}, {}
  local target
  local go
  local listener, port = check.listen(function(s)
    wait(function() return go end)
    slow_sink(parts, finished)(s)
  end)
  target = ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    s:read()
  end)
  wait(function() return target:state() == "read" end)
  local done, messages = {}, {}
  for i = 1, 20 do messages[i] = check.bulk(string.char(64 + i), MB) end
  ba.sleep(0) -- so much text takes its time: a new slice
  for i = 1, 20 do
    ba.socket.event(function()
      eq(target:write(messages[i]), true)
      done[#done + 1] = i
    end)
  end
  ok(#done < 20, "nobody was suspended")
  go = true
  wait(function() return #done == 20 end)
  for i = 1, 20 do eq(done[i], i) end
  target:close()
  wait(function() return finished[1] end)
  local all = table.concat(parts)
  eq(#all, 20 * MB)
  for i = 1, 20 do
    ba.sleep(0)
    ok(all:sub((i - 1) * MB + 1, i * MB) == messages[i], "message " .. i .. " is mixed with another")
  end
  listener:close()
end)

check.both("suspended writers when their target closes", function()
  local accepted
  local listener, port = check.listen(function(s) accepted = s s:disable() end)
  local target = ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    s:read()
  end)
  wait(function() return target:state() == "read" and accepted end)
  local got, block = {}, check.bulk("x", 20 * MB)
  ba.sleep(0)
  for i = 1, 3 do
    ba.socket.event(function() got[i] = table.pack(target:write(block)) end)
  end
  ba.thread.run(function() target:close() end)
  wait(function() return got[1] and got[2] and got[3] end)
  for i = 1, 3 do results({nil, "closed"}, table.unpack(got[i], 1, got[i].n)) end
  accepted:close()
  listener:close()
end)

check.both("a suspended writer when the peer goes", function()
  local accepted
  local listener, port = check.listen(function(s) accepted = s s:disable() end)
  local block, suspended, got = check.bulk("x", 50 * MB), nil, nil
  ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    suspended = true
    -- What a closing peer still receives it throws away, for a moment.
    repeat got = table.pack(s:write(block)) until not got[1]
    suspended = false
  end)
  wait(function() return accepted and suspended end)
  ba.sleep(20)
  eq(got, nil)
  accepted:close()
  wait(function() return suspended == false end)
  ok(got[2] == "socketclosed" or got[2] == "socketwritefailed", got[2])
  listener:close()
end)

check.both("a writer whose own socket closes stays with its write", function()
  local parts, finished, go = {}, {}, nil
  local listener, port = check.listen(function(s)
    wait(function() return go end)
    slow_sink(parts, finished)(s)
  end)
  local target = ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    s:read()
  end)
  wait(function() return target:state() == "read" end)
  local sent, after
  local writer = ba.socket.event(function(s)
    sent = target:write(check.bulk("x", 20 * MB))
    after = table.pack(s:read(10))
  end)
  writer:close()
  ba.sleep(20)
  eq(sent, nil, "the write ended")
  go = true
  wait(function() return after end)
  eq(sent, true)
  results({nil, "closed"}, table.unpack(after, 1, after.n))
  target:close()
  listener:close()
end)

check.job("a job is never suspended by a cosocket; its data is queued", function()
  local accepted
  local total = 0
  local listener, port = check.listen(function(s)
    accepted = s
    s:disable()
    while true do
      local data = s:read()
      if not data then break end
      total = total + #data
    end
  end)
  local sock = ok(ba.socket.connect("127.0.0.1", port))
  sock:event(function(s) s:read() end, "s")
  wait(function() return accepted end)
  eq(sock:queuelen(), 16384)
  local others = 0
  ba.thread.run(function() others = others + 1 end)
  local sent, status, writes = true, nil, 0
  local queued_seen
  while sent do
    sent, status = sock:write(("x"):rep(1000))
    if sent then writes = writes + 1 end
    if sent and status then queued_seen = status end
  end
  eq(others, 0, "the job was suspended")
  eq(type(status), "number")
  ok(queued_seen == nil or math.type(queued_seen) == "integer")
  results({"read", true}, sock:state())
  -- Nothing of the refused message was taken: the peer gets exactly the messages that were accepted.
  accepted:enable()
  wait(function() return total >= writes * 1000 end)
  ba.sleep(20)
  eq(total, writes * 1000)
  eq(sock:write("y"), true, "room again")
  sock:close()
  wait(function() return total == writes * 1000 + 1 end)
  results({nil, "closed"}, sock:write("z"))
  listener:close()
end)

check.job("queuelen", function()
  local a, b = check.pair()
  eq(a:queuelen(0), 0)
  eq(a:queuelen(), 0)
  eq(a:queuelen(1000.0), 1000)
  raises("range", a.queuelen, a, -1)
  raises("number expected", a.queuelen, a, "x")
  b:event(function(s) s:disable() end, "s")
  a:event(function(s) s:read() end, "s")
  a:queuelen(0)
  local sent, status
  repeat sent, status = a:write(("x"):rep(10000)) until not sent
  eq(type(status), "number")
  a:close()
  b:close()
end)

check.job("a job that writes to a blocking socket waits", function()
  local a, b = check.pair()
  local data = check.pattern(20 * MB)
  local sent
  ba.thread.run(function() sent = a:write(data) end)
  ba.sleep(20)
  eq(sent, nil)
  ok(check.read(b, #data) == data, "bytes differ")
  wait(function() return sent end)
  eq(sent, true)
  a:close()
  b:close()
end)

check.job("memory stays flat when the peer is slow", function()
  local accepted
  local listener, port = check.listen(function(s) accepted = s s:disable() end)
  local block, total = ("x"):rep(65536), 0
  local sock = ba.socket.event(function(s)
    ok(ba.socket.connect("127.0.0.1", port))
    while s:write(block) do total = total + #block end
  end)
  wait(function() return total > 0 end)
  ok(check.settled(function() return total end) < 16 * MB, total .. " bytes were taken for a peer that reads nothing")
  results({"write", true}, sock:state())
  sock:close()
  accepted:close()
  listener:close()
end)

-- Whether a job that is started now has run after so many writes.
local function lets_others(sock)
  local had_a_turn = false
  ba.thread.run(function() had_a_turn = true end)
  for _ = 1, 1000 do eq(sock:write "x", true) end
  return had_a_turn
end

check.job("a job whose writes always find room gives way to others", function()
  local a, b = check.pair()
  eq(lets_others(a), true)
  local far = ok(ba.socket.udpcon(0, {intf = "127.0.0.1"}))
  local _, port = far:sockname()
  local near = ok(ba.socket.udpcon("127.0.0.1", port))
  eq(lets_others(near), true, "datagrams")
  for _, sock in ipairs {a, b, near, far} do sock:close() end
end)

check.job("cosockets and timers do not (A.5)", function()
  local a, b = check.pair()
  local cosocket, timer
  ba.socket.event(function() cosocket = lets_others(a) end)
  local t = ba.timer(function() timer = lets_others(a) end)
  t:set(1, true)
  check.wait(function() return cosocket ~= nil and timer ~= nil end)
  eq(cosocket, false)
  eq(timer, false)
  a:close()
  b:close()
end)
