-- UDP as the documents and published scripts use it (ba-api D and E), with stand-ins for the servers
local check = require "check"
local eq, ok, results, wait = check.eq, check.ok, check.results, check.wait

local trace, traced, forget = check.recorder()

-- A server on a free port: answers with what f(datagram, number) returns; nil: not. Returns it and its port.
local function server(f)
  local s = ok(check.in_job(ba.socket.udpcon, 0, {intf = "127.0.0.1"}))
  local _, port = s:sockname()
  local number = 0
  s:event(function()
    while true do
      local data, ip, from = s:read(true)
      if not data then break end
      number = number + 1
      local answer = f(data, number)
      if answer then s:sendto(answer, ip, from) end
    end
  end, "s")
  return s, port
end

-- ---- example 1: NTP ----

local NTP_EPOCH = 2208988800 -- seconds from 1900 to 1970

local function printTime(host, port)
  local s, err = ba.socket.udpcon(host, port)
  if s then
    s:write(string.char(27) .. string.rep("\0", 47))
    local d
    d, err = s:read(5000)
    if d then
      if #d == 48 then
        trace(os.date("!%Y-%m-%d", ba.socket.n2h(4, d, 41) - NTP_EPOCH))
      else
        trace "Invalid response"
      end
    else
      trace("Receive:", err)
    end
    s:close()
  else
    trace("Cannot connect:", err)
  end
end

check.both("example 1", function()
  forget()
  local asked = {}
  local long = string.rep("\xff", 40) .. ba.socket.h2n(4, 1700000000 + NTP_EPOCH) .. "\0\0\0\0"
  local s, port = server(function(data, n)
    asked[n] = data
    return n == 1 and long or "short"
  end)
  check.in_job(printTime, "localhost", port)
  eq(traced[1], "2023-11-14")
  eq(asked[1], "\27" .. ("\0"):rep(47))
  check.in_job(printTime, "127.0.0.1", port)
  eq(traced[2], "Invalid response")
  s:close()
  check.in_job(printTime, "no such host", port)
  eq(traced[3], "Cannot connect:\tcannotresolve")
end)

-- ---- the published UDP page: one cosocket listens, another broadcasts and has read as its timer ----

-- `page` outlives a request; each request ends the pair of the one before.
local function udp_page(page, port, address, period)
  if page.r then page.r:close() end
  if page.s then page.s:close() end
  page.r = ba.socket.event(function(sock)
    local s, err = ba.socket.udpcon(port)
    if not s then return trace("Cannot bind", err) end
    eq(s, sock)
    while true do
      local msg, addr, from = s:read(true)
      if not msg then break end
      trace(msg, addr, from)
    end
    trace "Exiting receiver"
  end)
  page.s = ba.socket.event(function(sock)
    local s = ba.socket.udpcon()
    eq(s, sock)
    ok(s:setoption("broadcast", true))
    local count = 0
    while true do
      local _, err = s:read(period)
      if "timeout" ~= err then break end
      count = count + 1
      ok(s:sendto("message " .. count, address, port))
    end
    trace "Exiting sender"
  end)
end

check.job("the UDP page", function()
  forget()
  local free = ok(ba.socket.udpcon(0))
  local _, port = free:sockname()
  free:close()
  ba.sleep(0)
  local page = {}
  udp_page(page, port, "127.255.255.255", 10)
  wait(function() return #traced >= 3 end, "three messages")
  for i = 1, 3 do ok(traced[i]:find("^message " .. i .. "\t127%.0%.0%.1\t%d+$"), traced[i]) end
  forget()
  udp_page(page, port, "127.255.255.255", 10) -- the address is free at once
  wait(function() return #traced >= 4 end, "the old pair's end and new messages")
  local text = table.concat(traced, "\n")
  ok(text:find("Exiting receiver", 1, true) and text:find("Exiting sender", 1, true), text)
  ok(text:find "message 1\t", text)
  ok(not text:find "Cannot bind", text)
  page.r:close()
  page.s:close()
  wait(function() return page.r:state() == "terminated" and page.s:state() == "terminated" end)
end)

-- ---- a RADIUS client: connected, a time for the answer, a few tries, an identifier that must match ----

local function radius(port, secret, attributes, tries, ms)
  local s, err = ba.socket.udpcon("127.0.0.1", port)
  if not s then return nil, err end
  local id = math.random(0, 255)
  local request = string.char(1, id) .. ba.socket.h2n(2, 20 + #attributes) .. secret .. attributes
  for try = 1, tries do
    ok(s:write(request))
    local answer
    repeat -- an answer to somebody else's question is none
      answer, err = s:read(ms)
    until not answer or answer:byte(2) == id
    if answer then
      s:close()
      return answer:byte(1), try
    end
    if err ~= "timeout" then break end
  end
  s:close()
  return nil, err
end

check.both("request, answer and retry", function()
  local secret = ("k"):rep(16)
  local s, port = server(function(data, n)
    eq(ba.socket.n2h(2, data, 3), #data)
    if n < 3 then return nil end -- two are lost
    return string.char(2, data:byte(2)) .. ba.socket.h2n(2, 20) .. secret
  end)
  results({2, 3}, check.in_job(radius, port, secret, "user", 5, 30))
  results({2, 1}, check.in_job(radius, port, secret, "", 1, 5000))
  s:close()
end)

check.both("no answer, wrong answers, nobody there", function()
  local s, port = server(function() return nil end)
  results({nil, "timeout"}, check.in_job(radius, port, ("k"):rep(16), "user", 2, 10))
  s:close()
  s, port = server(function(data) return string.char(2, (data:byte(2) + 1) % 256) end)
  results({nil, "timeout"}, check.in_job(radius, port, ("k"):rep(16), "user", 2, 10))
  s:close()
  s = ok(check.in_job(ba.socket.udpcon, 0, {intf = "127.0.0.1"}))
  port = select(2, s:sockname())
  s:close()
  ba.sleep(0) -- nobody has that port from here on
  results({nil, "socketreadfailed"}, check.in_job(radius, port, ("k"):rep(16), "user", 2, 5000))
end)

-- Many at once, each with its own socket: a waiting one holds up nobody.
check.job("a hundred clients at once", function()
  local s, port = server(function(data) return string.char(2, data:byte(2)) end)
  local silent, silent_port = server(function() return nil end)
  local good, left = 0, 101
  ba.socket.event(function()
    radius(silent_port, ("k"):rep(16), "", 1, 300)
    left = left - 1
  end)
  for _ = 1, 100 do
    ba.socket.event(function()
      if radius(port, ("k"):rep(16), "", 5, 1000) == 2 then good = good + 1 end
      left = left - 1
    end)
  end
  wait(function() return good == 100 end, "a hundred answers")
  wait(function() return left == 0 end)
  s:close()
  silent:close()
end)
