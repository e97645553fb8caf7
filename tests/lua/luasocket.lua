-- The global sockcompat: what LuaSocket's Lua layer expects from C (ba-api E 14).
local check = require "check"
local eq, raises, results = check.eq, check.raises, check.results

check.both("try", function()
  results({1, nil, 3, n = 3}, sockcompat.try(1, nil, 3))
  raises("broken", sockcompat.try, nil, "broken")
  raises("broken", sockcompat.try, false, "broken")
  eq(select("#", pcall(sockcompat.try, nil)), 2)
end)

check.both("newtry with a finalizer", function()
  local calls = 0
  local try = sockcompat.newtry(function()
    calls = calls + 1
    ba.sleep(1)
    error "does not matter"
  end)
  eq(try "fine", "fine")
  eq(calls, 0)
  raises("broken", try, nil, "broken")
  eq(calls, 1)
end)

check.both("protect", function()
  local f = sockcompat.protect(function(...)
    ba.sleep(1)
    return select("#", ...), ...
  end)
  results({3, 1, nil, 2, n = 4}, f(1, nil, 2))
  local failing = sockcompat.protect(function(...)
    ba.sleep(1)
    sockcompat.try(...)
    return "not reached"
  end)
  results({nil, "broken", n = 2}, failing(nil, "broken"))
  local t = {}
  results({nil, t, n = 2}, failing(false, t))
  eq(failing(true), "not reached")
  raises("other", sockcompat.protect(function() error "other" end))
  local ok, err = pcall(sockcompat.protect(function() error(t) end))
  eq(ok, false)
  eq(err, t)
end)

check.both("skip", function()
  results({3, n = 1}, sockcompat.skip(2, 1, 2, 3))
  eq(select("#", sockcompat.skip(5, 1)), 0)
  results({1, n = 1}, sockcompat.skip(0, 1))
end)
