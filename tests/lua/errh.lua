-- ba.seterrh (ba-api C.5)
local check = require "check"
local eq, ok, raises = check.eq, check.ok, check.raises

local function collector()
  local texts = {}
  return texts, function(text, ...) texts[#texts + 1] = {text, select("#", ...)} end
end

check.job("every uncaught error", function()
  local texts, f = collector()
  eq(ba.seterrh(f), nil)
  ba.thread.run(function() error "in a job" end)
  ba.socket.event(function() error "in a cosocket" end)
  local t = ba.timer(function() local x = nil; x() end)
  t:set(0)
  check.wait(function() return #texts == 3 end, "three reports")
  local all = texts[1][1] .. texts[2][1] .. texts[3][1]
  for _, part in ipairs {"in a job", "in a cosocket", "attempt to call a nil value", "stack traceback", "errh.lua:"} do
    ok(all:find(part, 1, true), part)
  end
  eq(ba.seterrh(nil), f)
end)

check.job("not the caught ones", function()
  local texts, f = collector()
  ba.seterrh(f)
  pcall(error, "caught")
  local co = coroutine.wrap(function() error "caught too" end)
  pcall(co)
  ba.sleep(0)
  ba.sleep(0)
  eq(#texts, 0)
  ba.seterrh()
end)

check.job("the handler may wait", function()
  local over
  ba.seterrh(function(text)
    ba.sleep(5)
    over = text
  end)
  ba.thread.run(function() error "slowly" end)
  check.wait(function() return over end, "the handler")
  ok(over:find "slowly")
  ba.seterrh(nil)
end)

check.job("errors of the handler end there", function()
  local calls = 0
  ba.seterrh(function()
    calls = calls + 1
    error "of the handler"
  end)
  ba.thread.run(function() error "the first" end)
  check.wait(function() return calls > 0 end, "the handler")
  for _ = 1, 5 do ba.sleep(0) end
  eq(calls, 1)
  ba.seterrh(nil)
end)

check.job("one replaces the other", function()
  local texts, f = collector()
  local function g() end
  ba.seterrh(g)
  eq(ba.seterrh(f), g)
  ba.thread.run(function() error {} end)
  ba.thread.run(function() error() end)
  check.wait(function() return #texts == 2 end, "two reports")
  eq(type(texts[1][1]), "string", "whatever was raised")
  eq(type(texts[2][1]), "string")
  eq(ba.seterrh(nil), f)
  eq(ba.seterrh(nil), nil)
  raises("function expected", ba.seterrh, "x")
end)

check.job("a flood", function()
  local n = 0
  ba.seterrh(function() n = n + 1 end)
  for _ = 1, 1000 do ba.thread.run(function() error "flood" end) end
  check.wait(function() return n >= 100 end, "reports")
  ok(n <= 1000)
  ba.seterrh(nil)
end)
