-- ba.bytearray (ba-api C.6, F-20)
local check = require "check"
local eq, ok, raises, results = check.eq, check.ok, check.raises, check.results
local bta = ba.bytearray

local function array(text, i, j)
  local a = bta.create(text)
  if i then bta.setsize(a, i, j) end
  return a
end

check.job("create", function()
  local a = bta.create(3)
  eq(type(a), "userdata")
  eq(#a, 3)
  eq(tostring(a), "\0\0\0")
  eq(#bta.create(0), 0)
  eq(#bta.create(2.9), 2)
  eq(tostring(bta.create "12"), "12", "a string is copied, whatever is in it")
  eq(tostring(bta.create(array("abcdef", 2, 3))), "bc")
  results({5, 1, 5}, bta.size(bta.create "hello"))
  raises("size must be", bta.create, -1)
  raises("size must be", bta.create, 2 ^ 31)
  raises("string expected", bta.create)
  raises("string expected", bta.create, {})
  raises("not finite", bta.create, 0 / 0)
end)

check.job("reading an index", function()
  local a = array("abcdef", 3, 5)
  eq(a[1], 99)
  eq(a[3], 101)
  eq(a[2.0], 100)
  for _, i in ipairs {0, -1, 4, 100, "1", "x"} do eq(a[i], nil, "index " .. i) end
  eq(bta.create(0)[1], nil)
end)

check.job("storing at an index", function()
  local a = bta.create(6)
  a[1] = 65
  a[2] = "BC"
  a[4] = {68, 69.0}
  a[6] = array("xFx", 2, 2)
  eq(tostring(a), "ABCDEF")
  for _, empty in ipairs {"", {}, bta.create(0)} do
    a[1] = empty
    a[7] = empty
    raises("do not fit", function() a[8] = empty end)
  end
  eq(tostring(a), "ABCDEF")
  for _, bad in ipairs {256, -1, 1e30} do raises(".", function() a[1] = bad end) end
  raises("a byte", function() a[1] = {1, 256} end)
  raises("a byte", function() a[1] = {1, "x"} end)
  raises("do not fit", function() a[7] = 1 end)
  raises("do not fit", function() a[0] = 1 end)
  raises("do not fit", function() a[5] = "123" end)
  raises("do not fit", function() a[1] = "1234567" end)
  raises("number expected", function() a.x = 1 end)
  raises("string expected", function() a[1] = true end)
end)

check.job("an array stored into itself", function()
  local a = array("abcdef")
  bta.setsize(a, 1, 4)
  local copied = bta.copy(a, 2, a)
  eq(copied, 1)
  eq(tostring(a), "aabc")
end)

check.job("the window", function()
  local a = array "0123456789"
  bta.setsize(a, -3)
  results({10, 8, 10}, bta.size(a))
  eq(tostring(a), "789")
  eq(#a, 3)
  a[1] = "x"
  bta.setsize(a)
  eq(tostring(a), "0123456x89")
  bta.setsize(a, 4)
  a[1] = {97, 98, 99}
  bta.setsize(a, 1, -4)
  eq(tostring(a), "012abc6")
  bta.setsize(a, 11)
  eq(#a, 0)
  eq(tostring(a), "")
  results({10, 11, 10}, bta.size(a))
  bta.setsize(a, 3, 2)
  eq(#a, 0)
  raises("start is outside", bta.setsize, a, 12)
  raises("start is outside", bta.setsize, a, 0)
  raises("start is outside", bta.setsize, a, -11)
  raises("end is before", bta.setsize, a, 5, 3)
  raises("end is before", bta.setsize, a, 1, 11)
  results({10, 3, 2}, bta.size(a))
  bta.setsize(bta.create(0), 1)
end)

check.job("tostring with positions is string.sub", function()
  local text = "abcdef"
  local a = array("__" .. text .. "__", 3, 8)
  for i = -8, 8 do
    eq(bta.tostring(a, i), text:sub(i))
    for j = -8, 8 do eq(bta.tostring(a, i, j), text:sub(i, j), i .. "," .. j) end
  end
  eq(bta.tostring(a, nil, nil), text)
end)

check.job("h2n and n2h", function()
  local a = bta.create(10)
  for size = 1, 8 do
    bta.h2n(a, 2, size, 0x1122334455667788)
    eq(bta.n2h(a, 2, size), size == 8 and 0x1122334455667788 or 0x1122334455667788 & ((1 << (size * 8)) - 1))
  end
  bta.h2n(a, 1, 2, -1)
  eq(bta.n2h(a, 1, 2), 0xffff)
  bta.h2n(a, 3, 8, 7.0)
  eq(bta.n2h(a, 3, 8), 7)
  raises("do not fit", bta.h2n, a, 4, 8, 0)
  raises("do not fit", bta.n2h, a, 0, 1)
  raises("1 to 8", bta.n2h, a, 1, 9)
  raises("1 to 8", bta.h2n, a, 1, 0, 0)
  bta.setsize(a, 5, 6)
  bta.h2n(a, 1, 2, 0x4142)
  eq(tostring(a), "AB")
  raises("do not fit", bta.n2h, a, 1, 3)
end)

check.job("copy", function()
  local a = bta.create "......"
  eq(bta.copy(a, 1, "abc"), 0)
  eq(tostring(a), "abc...")
  eq(bta.copy(a, 5, "xyz"), 1, "what did not fit")
  eq(tostring(a), "abc.xy")
  eq(bta.copy(a, 7, "12"), 2, "just behind the end nothing fits")
  eq(bta.copy(a, 7, ""), 0)
  eq(bta.copy(a, 1, "0123456789", 3, 4), 0)
  eq(tostring(a), "23c.xy")
  eq(bta.copy(a, 1, "0123456789", -2), 0)
  eq(tostring(a), "89c.xy")
  eq(bta.copy(a, 1, array("0123456789", 4, 5)), 0)
  eq(tostring(a), "34c.xy")
  eq(bta.copy(a, 1, "abc", 5), 0, "from behind the end")
  eq(bta.copy(a, 1, "abc", 3, 2), 0)
  eq(tostring(a), "34c.xy")
  raises("do not fit", bta.copy, a, 8, "")
  raises("do not fit", bta.copy, a, 0, "x")
  raises("string expected", bta.copy, a, 1, nil)
end)

-- What the MQTT 5 client and broker do: everything from ix + 1 on, said with j = -ix - 1.
check.job("copy with a negative end", function()
  local data = "0123456789"
  for ix = 0, #data do
    local a = bta.create(20)
    eq(bta.copy(a, 1, data, ix + 1, -ix - 1), 0)
    eq(bta.tostring(a, 1, #data - ix), data:sub(ix + 1), "ix " .. ix)
    local short = bta.create(3)
    eq(bta.copy(short, 1, data, ix + 1, -ix - 1), math.max(0, #data - ix - 3))
  end
  local a = bta.create(20)
  eq(bta.copy(a, 1, data, 1, -3), 0)
  eq(bta.tostring(a, 1, 9), "01234567\0", "from the beginning it is string.sub")
  eq(bta.copy(a, 1, data, 1, -11), 0)
  eq(bta.copy(a, 1, data, 1, -100), 0)
end)

check.job("where strings are taken", function()
  local a = array("\0\1\2\3", 3, 4)
  eq(ba.socket.n2h(2, a), 0x0203)
end)

check.both("write takes the window as it was at the call", function()
  local got = {}
  local listener, port = check.listen(function(s) got[#got + 1] = check.read(s, 11) end)
  local sock = check.ok(check.in_job(ba.socket.connect, "127.0.0.1", port))
  local a = array("__hello__", 3, 7)
  eq(sock:write(a), true)
  eq(sock:write(a, 2, 4), true)
  eq(sock:write(a, -3), true)
  eq(sock:write(bta.create(0)), false)
  check.wait(function() return got[1] end, "the bytes")
  eq(got[1], "helloellllo")
  sock:close()
  listener:close()
end)

check.job("changes while a write waits do not show", function()
  local sock, peer = check.pair()
  local n = 24 << 20
  local a = bta.create(check.bulk("x", n))
  local done
  sock:event(function() done = table.pack(sock:write(a)) end, "s") -- up to the wait
  eq(done, nil)
  for i = 1, n, 997 do a[i] = 0 end
  bta.setsize(a, 1, 1)
  ok(check.read(peer, n) == check.bulk("x", n))
  check.wait(function() return done end, "the writer")
  eq(done[1], true)
  sock:close()
  peer:close()
end)
