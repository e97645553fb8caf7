-- ba.socket.h2n, n2h, fh2n, fn2h
local check = require "check"
local eq, raises = check.eq, check.raises
local s = ba.socket

check.job("h2n writes big-endian", function()
  eq(s.h2n(1, 0x41), "A")
  eq(s.h2n(2, 0x4142), "AB")
  eq(s.h2n(3, 0x414243), "ABC")
  eq(s.h2n(4, 0x41424344), "ABCD")
  eq(s.h2n(8, 0x4142434445464748), "ABCDEFGH")
end)

check.job("h2n keeps the low bytes", function()
  eq(s.h2n(1, 0x142), "B")
  eq(s.h2n(2, -1), "\xff\xff")
  eq(s.h2n(8, -1), ("\xff"):rep(8))
end)

check.job("floats are numbers too", function()
  eq(s.h2n(2, 258.0), "\1\2")
  eq(s.h2n(2.0, 258.9), "\1\2", "truncated")
  eq(s.h2n(4, 4294967295.0), "\xff\xff\xff\xff")
  raises("finite", s.h2n, 4, 0 / 0)
  raises("finite", s.h2n, 4, math.huge)
end)

check.job("n2h is unsigned below 8 bytes", function()
  eq(s.n2h(1, "\xff"), 255)
  eq(s.n2h(4, "\xff\xff\xff\xff"), 4294967295)
  eq(s.n2h(7, ("\xff"):rep(7)), (1 << 56) - 1)
  eq(s.n2h(8, ("\xff"):rep(8)), -1)
  eq(math.type(s.n2h(4, "abcd")), "integer")
end)

check.job("n2h from a position", function()
  eq(s.n2h(2, "xxAB", 3), 0x4142)
  eq(s.n2h(1, "A", 1), 0x41)
  eq(s.n2h(2, "ABC", 2.0), 0x4243)
  raises("too short", s.n2h, 2, "xxAB", 4)
  raises("too short", s.n2h, 2, "A")
  raises("too short", s.n2h, 1, "")
  raises("start", s.n2h, 1, "A", 0)
  raises("start", s.n2h, 1, "A", -1)
end)

check.job("there and back", function()
  for size = 1, 8 do
    local n = math.random(0) & (size == 8 and -1 or (1 << size * 8) - 1)
    eq(s.n2h(size, s.h2n(size, n)), n, "size " .. size)
  end
end)

check.job("floats", function()
  eq(s.fh2n(4, 1.5), "\x3f\xc0\0\0")
  eq(s.fh2n(8, 1.5), "\x3f\xf8\0\0\0\0\0\0")
  eq(s.fn2h(4, "\x3f\xc0\0\0"), 1.5)
  eq(s.fn2h(8, "x\x3f\xf8\0\0\0\0\0\0", 2), 1.5)
  eq(s.fn2h(8, s.fh2n(8, math.pi)), math.pi)
  eq(s.fn2h(4, s.fh2n(4, -0.25)), -0.25)
  eq(s.fn2h(8, s.fh2n(8, math.huge)), math.huge)
end)

check.job("wrong arguments raise", function()
  raises("size", s.h2n, 0, 1)
  raises("size", s.h2n, 9, 1)
  raises("size", s.fh2n, 2, 1)
  raises("size", s.fn2h, 3, "abc")
  raises("number expected", s.h2n, 2, "x")
  raises("string expected", s.n2h, 2, {})
  raises("too short", s.fn2h, 8, "1234567")
end)
