-- The queue of a cosocket that others write to, and the order of all who wait (ba-api A.5)
--
--   MEBIBYTES=1024 cosockd test tests/lua/socket_queue.lua     default 64 through a queue of 16 KiB
local check = require "check"
local eq, ok, results, wait = check.eq, check.ok, check.results, check.wait

local MEBIBYTES = tonumber(os.getenv "MEBIBYTES") or 64

-- A cosocket that waits in read, and its peer, a blocking socket that reads when it is told to. Over a Unix
-- socket: its buffers are small and do not grow.
local function pair()
  local accepted
  local address = "unix:@cosockd-test-queue-" .. ba.clock() .. "-" .. math.random(1 << 40)
  local listener = ok(check.in_job(ba.socket.bind, address))
  listener:event(function(s) accepted = s:accept() end, "r")
  local sock = ok(check.in_job(ba.socket.connect, address))
  wait(function() return accepted end, "accept")
  listener:close()
  sock:event(function(s) s:read() end, "s")
  return sock, accepted
end

-- Writes blocks until one is not simply taken. Returns what write returned, and how many bytes were accepted.
local function fill(sock, block)
  local n = 0
  while true do
    ba.sleep(0) -- small texts of one slice are offered to TCP together
    local sent, queued = sock:write(block)
    if not sent then return sent, queued, n end
    n = n + #block
    if queued then return sent, queued, n end
  end
end

check.job("taken whole: true and nothing else", function()
  local sock, peer = pair()
  for _ = 1, 20 do eq(select("#", sock:write("x")), 1) end
  eq(sock:write("y"), true)
  eq(#check.read(peer, 21), 21)
  sock:close()
  peer:close()
end)

check.job("taken in part: the rest is queued whatever queuelen says", function()
  for _, queuelen in ipairs {0, 1000, 16384, 1 << 30} do
    local sock, peer = pair()
    sock:queuelen(queuelen)
    local block = check.bulk("x", 3000000)
    local sent, queued, n = fill(sock, block)
    eq(sent, true)
    ok(queued > 0 and queued < #block, queued)
    if queuelen < queued then
      results({nil, queued}, sock:write("y"))
    else
      results({true, queued + 1}, sock:write("y"))
      n = n + 1
    end
    eq(#check.read(peer, n), n)
    results({nil, "timeout"}, peer:read(20))
    eq(select("#", sock:write("z")), 1)
    eq(peer:read(), "z")
    sock:close()
    peer:close()
  end
end)

check.job("queuelen 0 and TCP full: nil, 0, again and again", function()
  local sock, peer = pair()
  sock:queuelen(0)
  local sent, queued, n = fill(sock, ("x"):rep(100)) -- a Unix socket takes each whole or not
  results({nil, 0}, sent, queued)
  for _ = 1, 10 do results({nil, 0}, sock:write("y")) end
  eq(#check.read(peer, n), n)
  results({nil, "timeout"}, peer:read(20))
  sock:close()
  peer:close()
end)

check.job("the queue fills to queuelen, and the number says so (example 12b)", function()
  local sock, peer = pair()
  local n, sent, queued, last = 0, nil, nil, 0
  while true do
    sent, queued = sock:write(("m"):rep(100))
    if not sent then break end
    n = n + 100
    if queued then
      ok(queued == last + 100 or last == 0, "one message more")
      last = queued
    end
  end
  eq(queued, last)
  ok(queued > 16384 - 100 and queued <= 16384, queued)
  results({nil, queued}, sock:write(("m"):rep(100)))
  results({nil, queued}, sock:write(("m"):rep(20000)))
  -- Changes of queuelen while data waits.
  sock:queuelen(queued + 150)
  results({true, queued + 100}, sock:write(("m"):rep(100)))
  results({nil, queued + 100}, sock:write(("m"):rep(51)))
  results({true, queued + 150}, sock:write(("m"):rep(50)))
  sock:queuelen(0)
  results({nil, queued + 150}, sock:write("m"))
  n = n + 150
  eq(#check.read(peer, n), n)
  results({nil, "timeout"}, peer:read(20))
  sock:close()
  peer:close()
end)

check.job("what is queued is delivered before close", function()
  local sock, peer = pair()
  local _, queued, n = fill(sock, check.bulk("x", 1000000))
  ok(queued > 0)
  sock:close()
  results({nil, "closed"}, sock:write("y"))
  local got, err = check.read(peer, n + 1)
  eq(#got, n)
  eq(err, "socketclosed")
  peer:close()
end)

check.job("one line of suspended writers and messages", function()
  local sock, peer = pair()
  sock:queuelen(1 << 30)
  local done = {}
  local function writer(c, n)
    ba.socket.event(function()
      eq(sock:write(check.bulk(c, n)), true)
      done[#done + 1] = c
    end)
  end
  writer("a", 2000000)
  local _, queued = sock:write("1")
  ok(queued > 0)
  writer("b", 1000)
  results({true, queued + 2}, sock:write("23"))
  writer("c", 2000000)
  results({true, queued + 3}, sock:write("4"))
  eq(#done, 0)
  local got = check.read(peer, 4001004)
  local runs, at = "", 1
  while at <= #got do
    runs = runs .. got:sub(at, at)
    at = got:find("[^" .. got:sub(at, at) .. "]", at) or #got + 1
  end
  eq(runs, "a1b23c4")
  wait(function() return #done == 3 end)
  eq(table.concat(done), "abc")
  sock:close()
  peer:close()
end)

check.job("a message does not go into the middle of a suspended one, and is refused when it does not fit", function()
  local sock, peer = pair()
  local sent
  ba.socket.event(function() sent = sock:write(check.bulk("a", 2000000)) end)
  local refused, queued = sock:write("1")
  eq(refused, nil)
  ok(queued > 16384)
  eq(#check.read(peer, 2000000), 2000000)
  wait(function() return sent end)
  eq(sock:write("1"), true)
  eq(peer:read(), "1")
  sock:close()
  peer:close()
end)

check.job("closed while messages and writers wait", function()
  local sock, peer = pair()
  sock:queuelen(1 << 30)
  local got
  ba.socket.event(function() got = table.pack(sock:write(check.bulk("a", 2000000))) end)
  ok(select(2, sock:write("behind it")))
  sock:close()
  wait(function() return got end)
  results({nil, "closed"}, table.unpack(got, 1, got.n))
  local text, err = check.read(peer, 3000000)
  eq(err, "socketclosed")
  ok(#text < 2000000 and not text:find "b", "what stood behind an unfinished text went out without it")
  peer:close()
end)

check.job("thousands of writers to one socket, first come first served", function()
  local sock, peer = pair()
  local N, done = 3000, {}
  local blocked = check.bulk("x", 2000000)
  ba.socket.event(function() sock:write(blocked) end)
  for i = 1, N do
    ba.socket.event(function()
      eq(sock:write(("%07d "):format(i)), true)
      done[#done + 1] = i
    end)
    if i % 500 == 0 then ba.sleep(0) end
  end
  eq(#done, 0)
  local text = check.read(peer, #blocked + N * 8):sub(#blocked + 1)
  local i = 0
  for number in text:gmatch "%d+" do
    i = i + 1
    eq(tonumber(number), i)
  end
  eq(i, N)
  wait(function() return #done == N end)
  for k = 1, N do eq(done[k], k) end
  sock:close()
  peer:close()
end)

check.job("several jobs that write to one blocking socket keep their order", function()
  local sock, peer = check.pair()
  local N, done = 200, {}
  for i = 1, N do
    ba.thread.run(function()
      eq(sock:write(string.char(32 + i % 90):rep(50000)), true)
      done[#done + 1] = i
    end)
  end
  local text = check.read(peer, N * 50000)
  eq(#text, N * 50000)
  for i = 1, N do
    eq(text:byte((i - 1) * 50000 + 1), 32 + i % 90)
    eq(text:byte(i * 50000), 32 + i % 90)
  end
  wait(function() return #done == N end)
  for k = 1, N do eq(done[k], k) end
  sock:close()
  peer:close()
end)

-- Every message that was refused is sent again later: all of it arrives, in order, once.
check.job(MEBIBYTES .. " MiB through a queue of 16 KiB", function()
  local total, bad, finished = 0, nil, nil
  local size = 8192
  local listener, port = check.listen(function(s)
    local rest = ""
    while true do
      local data = s:read()
      if not data then break end
      data = rest .. data
      local at = 1
      while at + size - 1 <= #data do
        if ("<I8"):unpack(data, at) ~= total then bad = bad or total end
        total = total + 1
        at = at + size
      end
      rest = data:sub(at)
    end
    finished = rest == ""
  end)
  local sock = ok(check.in_job(ba.socket.connect, "127.0.0.1", port))
  sock:event(function(s) s:read() end, "s")
  local messages, refused, filler = MEBIBYTES * 1024 * 1024 // size, 0, ("x"):rep(size - 8)
  for i = 0, messages - 1 do
    local message = ("<I8"):pack(i) .. filler
    local sent, queued = sock:write(message)
    while not sent do
      refused = refused + 1
      ok(math.type(queued) == "integer" and queued <= 16384 + size, queued)
      ba.sleep(1)
      sent, queued = sock:write(message)
    end
    if i % 256 == 0 then ba.sleep(0) end
  end
  sock:close()
  wait(function() return finished ~= nil end, "the end")
  eq(finished, true, "a message was cut")
  eq(bad, nil, "the first message out of order")
  eq(total, messages)
  ok(refused > 0 or MEBIBYTES < 16, "the queue was never full")
  listener:close()
end)
