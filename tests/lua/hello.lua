-- sock:clienthello: a TLS client's wishes are read, its bytes stay
local check = require "check"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait

local function extension(type, body) return string.pack(">I2s2", type, body) end

-- A handshake message.
local function hello(sni, alpn, padding)
  local extensions = {}
  if padding then extensions[1] = extension(21, ("\0"):rep(padding)) end
  if sni then extensions[#extensions + 1] = extension(0, string.pack(">s2", string.pack(">Bs2", 0, sni))) end
  if alpn then
    local names = {}
    for name in alpn:gmatch "[^,]+" do names[#names + 1] = string.pack("s1", name) end
    extensions[#extensions + 1] = extension(16, string.pack(">s2", table.concat(names)))
  end
  extensions[#extensions + 1] = extension(43, string.pack(">s1", "\x0a\x0a\x03\x04\x03\x03"))
  local body = "\3\3" .. ("r"):rep(32) .. "\0" .. string.pack(">s2", "\x13\x01") .. "\1\0" ..
               string.pack(">s2", table.concat(extensions))
  return "\1" .. string.pack(">I3", #body) .. body
end

-- The message in records of at most n bytes.
local function records(message, n)
  local out = {}
  for i = 1, #message, n or 16384 do
    out[#out + 1] = "\22\3\1" .. string.pack(">s2", message:sub(i, i + (n or 16384) - 1))
  end
  return table.concat(out)
end

local usual = records(hello("www.example.com", "h2,http/1.1"))

local function check_usual(h, err)
  ok(h, err)
  eq(h.sni, "www.example.com")
  eq(table.concat(h.alpn, ","), "h2,http/1.1")
  eq(table.concat(h.versions, ","), "TLSv1.3,TLSv1.2")
end

local function in_job(f) ba.thread.run(f) end

check.every_mode("all at once, and read gets every byte", function(a, b)
  b:write(usual .. "and more")
  check_usual(a:clienthello(5000))
  check_usual(a:clienthello(0)) -- again, without waiting
  eq(check.read(a, #usual + 8), usual .. "and more")
end)

check.every_mode("byte by byte", function(a, b)
  in_job(function()
    for i = 1, #usual do
      b:write(usual:sub(i, i))
      ba.sleep(0)
    end
  end)
  check_usual(a:clienthello(5000))
  eq(check.read(a, #usual), usual)
end)

check.every_mode("long, in many records", function(a, b)
  local long = records(hello("www.example.com", "h2,http/1.1", 40000), 1000)
  in_job(function() b:write(long) end)
  check_usual(a:clienthello(5000))
  eq(#check.read(a, #long), #long)
end)

check.every_mode("nothing asked for", function(a, b)
  b:write(records(hello()))
  local h = ok(a:clienthello(5000))
  eq(h.sni, nil)
  eq(#h.alpn, 0)
end)

check.every_mode("what is no TLS stays readable", function(a, b)
  b:write("GET / HTTP/1.1\r\n\r\n")
  results({nil, "notssl"}, a:clienthello(5000))
  eq(a:read(), "GET / HTTP/1.1\r\n\r\n")
  b:write("\22\3\1\0\4\2\0\0\0")
  results({nil, "sslhandshake"}, a:clienthello(5000))
end)

check.every_mode("one byte is enough to see that it is none", function(a, b)
  b:write("S")
  results({nil, "notssl"}, a:clienthello())
end)

check.every_mode("the time is for all of it", function(a, b)
  local stop
  in_job(function()
    for i = 1, #usual - 1 do
      if stop then return end
      b:write(usual:sub(i, i))
      ba.sleep(10)
    end
  end)
  results({nil, "timeout"}, a:clienthello(60))
  stop = true
  results({nil, "timeout"}, a:clienthello(0))
  ok(a:read(0), "what came is there")
end)

check.every_mode("too long", function(a, b)
  in_job(function() b:write(records("\1\1\0\0" .. ("x"):rep(1000))) end)
  results({nil, "toomuchdata"}, a:clienthello(5000))
end)

check.every_mode("records of one byte fill the read-ahead", function(a, b)
  local long = records(hello("x", nil, 60000), 1)
  in_job(function() -- in pieces: of what comes at once more may be read ahead
    for at = 1, #long, 16384 do
      if not b:write(long:sub(at, at + 16383)) then break end
      ba.sleep(1)
    end
  end)
  results({nil, "toomuchdata"}, a:clienthello(10000))
end)

check.every_mode("the peer ends", function(a, b)
  in_job(function()
    b:write(usual:sub(1, 50))
    b:close()
  end)
  results({nil, "socketclosed"}, a:clienthello(5000))
  eq(a:read(), usual:sub(1, 50))
end)

check.every_mode("closed by somebody else", function(a, b)
  in_job(function() a:close() end)
  results({nil, "closed"}, a:clienthello(5000))
  results({nil, "closed"}, a:clienthello(5000))
end)

check.job("only its own coroutine may", function()
  local a, b = check.pair()
  a:event(function(s) s:read() end, "s")
  raises("own coroutine", a.clienthello, a)
  b:close()
  raises("negative", a.clienthello, a, -1)
  local listener = assert(ba.socket.bind(0, {intf = "127.0.0.1"})) -- nobody's yet
  raises("listening", listener.clienthello, listener)
  listener:close()
end)

check.cosocket("not connected", function()
  results({nil, "incorrectuse"}, ba.socket.getsock():clienthello(10))
end)

check.job("a relay passes all of it on", function()
  local got = {}
  local listener, port = check.listen(function(s)
    got[1] = check.read(s, #usual + 4, 5000)
    s:write("hello back")
  end)
  local a, b = check.pair()
  b:write(usual)
  a:event(function(s)
    check_usual(s:clienthello(5000))
    local up = check.in_job(ba.socket.connect, "127.0.0.1", port)
    ba.socket.relay(s, up)
  end, "s")
  ba.sleep(20)
  b:write("tail")
  eq(check.read(b, 10, 5000), "hello back")
  eq(got[1], usual .. "tail")
  b:close()
  listener:close()
end)
