-- ba.rnd, rnds, rndbs, rndseed (ba-api C.5)
local check = require "check"
local eq, ok, raises = check.eq, check.ok, check.raises

-- Every value of a small range comes, and nothing else: a chance of 1e-17 to fail with 1000 draws of 25.
local function covers(low, high, f)
  local seen, n = {}, 0
  for _ = 1, 1000 do
    local v = f()
    eq(math.type(v), "integer")
    ok(v >= low and v <= high, v)
    if not seen[v] then seen[v], n = true, n + 1 end
  end
  eq(n, high - low + 1)
end

check.job("rnd", function()
  covers(0, 20, function() return ba.rnd(20) end)
  covers(-3, 4, function() return ba.rnd(-3, 4) end)
  covers(0, 0, function() return ba.rnd(0) end)
  covers(7, 7, function() return ba.rnd(7, 7) end)
  covers(0, 1, function() return ba.rnd(1.9) end)
  for _ = 1, 100 do
    local v = ba.rnd()
    ok(v >= 0 and v <= 0x7fffffff)
    v = ba.rnd(1, 0xFFFFFFFF / 2 - 1)
    ok(v >= 1 and v <= 0x7ffffffe)
    v = ba.rnd(math.mininteger // 2, math.maxinteger // 2)
    ok(math.abs(v) <= math.maxinteger // 2 + 1)
  end
  raises("below", ba.rnd, 2, 1)
  raises("below", ba.rnd, -1)
  raises("number expected", ba.rnd, {})
  raises("not finite", ba.rnd, 1 / 0)
end)

check.job("rnds", function()
  for size = 1, 7 do
    local all = 0
    for _ = 1, 200 do
      local v = ba.rnds(size)
      ok(v >= 0 and v < 1 << (8 * size))
      all = all | v
    end
    eq(all, (1 << (8 * size)) - 1, "each bit is set at times")
  end
  local all, none = 0, -1
  for _ = 1, 200 do
    local v = ba.rnds(8)
    all, none = all | v, none & v
  end
  eq(all, -1)
  eq(none, 0)
  raises("1 to 8", ba.rnds, 0)
  raises("1 to 8", ba.rnds, 9)
end)

check.job("rndbs", function()
  for _, n in ipairs {1, 2, 255, 256, 257, 65535} do eq(#ba.rndbs(n), n) end
  ok(ba.rndbs(16) ~= ba.rndbs(16))
  local seen = {}
  for _, byte in ipairs {ba.rndbs(8000):byte(1, -1)} do seen[byte] = true end
  for byte = 0, 255 do ok(seen[byte], byte) end
  raises("1 to 65535", ba.rndbs, 0)
  raises("1 to 65535", ba.rndbs, 65536)
end)

check.job("rndseed", function()
  eq(select("#", ba.rndseed(12)), 0)
  ba.rndseed "entropy"
  raises("string expected", ba.rndseed)
end)
