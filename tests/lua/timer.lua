-- ba.timer, ba.clock (ba-api C.2)
local check = require "check"
local eq, ok, raises, wait = check.eq, check.ok, check.raises, check.wait

check.job("fires once, not early", function()
  local start, at = ba.clock(), nil
  local t = ba.timer(function() at = ba.clock() end)
  eq(t:set(50), true)
  wait(function() return at end)
  ok(at - start >= 50, "after " .. at - start .. " ms")
  local fired = at
  ba.sleep(120)
  eq(at, fired, "it fired again")
end)

check.job("a callback never runs inside set", function()
  local ran = false
  local t = ba.timer(function() ran = true end)
  t:set(0)
  eq(ran, false)
  wait(function() return ran end)
end)

check.job("returning true repeats", function()
  local n = 0
  local t = ba.timer(function() n = n + 1 return n < 4 end)
  t:set(5)
  wait(function() return n == 4 end)
  ba.sleep(40)
  eq(n, 4)
  eq(t:cancel(), nil, "still active")
end)

check.job("set restarts an active timer", function()
  local n, start = 0, ba.clock()
  local t = ba.timer(function() n = n + 1 end)
  t:set(10)
  t:set(60)
  wait(function() return n > 0 end)
  ok(ba.clock() - start >= 60)
  ba.sleep(30)
  eq(n, 1)
end)

check.job("reset and cancel tell whether it was active", function()
  local n = 0
  local t = ba.timer(function() n = n + 1 end)
  eq(t:reset(10), nil)
  eq(t:cancel(), nil)
  t:set(20)
  eq(t:reset(60000), true)
  ba.sleep(50)
  eq(n, 0)
  eq(t:cancel(), true)
  eq(t:cancel(), nil)
  ba.sleep(60)
  eq(n, 0)
end)

check.job("reset changes the interval", function()
  local n, t = 0, nil
  t = ba.timer(function() n = n + 1 return true end)
  t:set(10000)
  t:reset(3)
  wait(function() return n >= 3 end)
  t:cancel()
end)

check.job("floats, and what is no time", function()
  local n = 0
  local t = ba.timer(function() n = n + 1 end)
  t:set(1.9)
  wait(function() return n == 1 end)
  raises("negative", t.set, t, -1)
  raises("finite", t.set, t, 0 / 0)
  raises("number expected", t.set, t)
  raises("function expected", ba.timer)
  raises("function expected", ba.timer, 1)
  raises("ba.timer expected", t.set, io.stdout, 1)
  t:set(2 ^ 60) -- a very long time
  eq(t:cancel(), true)
end)

check.job("immediately runs the callback inside set", function()
  local n = 0
  local t = ba.timer(function() n = n + 1 return n < 3 end)
  t:set(5, false, true)
  eq(n, 1)
  wait(function() return n == 3 end)
  ba.sleep(20)
  eq(n, 3)
  eq(t:cancel(), nil)
end)

check.job("immediately, and the callback says no more", function()
  local n = 0
  local t = ba.timer(function() n = n + 1 end)
  t:set(5, true, true)
  eq(n, 1)
  eq(t:cancel(), nil)
end)

check.job("an error stops the timer and nothing else", function()
  local n, other = 0, 0
  local t = ba.timer(function() n = n + 1 error "expected in the log: timer callback" end)
  local u = ba.timer(function() other = other + 1 return true end)
  t:set(1)
  u:set(1)
  wait(function() return other > 5 end)
  eq(n, 1)
  eq(t:cancel(), nil)
  u:cancel()
  t:set(1)
  wait(function() return n == 2 end, "the second error")
end)

check.job("set in the callback wins over its result", function()
  local n, t = 0, nil
  t = ba.timer(function()
    n = n + 1
    if n == 1 then t:set(2) end -- returns nothing, yet goes on
  end)
  t:set(1)
  wait(function() return n == 2 end)
  ba.sleep(10)
  eq(n, 2)
end)

check.job("cancel in the callback wins over true", function()
  local n, t = 0, nil
  t = ba.timer(function() n = n + 1 eq(t:cancel(), true) eq(t:cancel(), nil) return true end)
  t:set(1)
  wait(function() return n == 1 end)
  ba.sleep(20)
  eq(n, 1)
end)

check.job("reset in the callback changes the next interval", function()
  local times, t = {}, nil
  t = ba.timer(function()
    times[#times + 1] = ba.clock()
    if #times == 1 then eq(t:reset(40), true) end
    return #times < 2
  end)
  t:set(1)
  wait(function() return #times == 2 end)
  ok(times[2] - times[1] >= 40)
end)

check.job("the callback may wait; it never overlaps itself", function()
  local inside, most, n = 0, 0, 0
  local t
  t = ba.timer(function()
    inside, n = inside + 1, n + 1
    most = math.max(most, inside)
    ba.sleep(20)
    inside = inside - 1
    return n < 3
  end)
  t:set(1)
  wait(function() return inside == 1 end)
  t:set(1) -- from outside, while the callback sleeps
  wait(function() return n == 3 and inside == 0 end)
  eq(most, 1)
end)

check.job("yield(true) waits for the next tick", function()
  local seen = {}
  local t = ba.timer(function()
    for i = 1, 3 do
      seen[#seen + 1] = i
      coroutine.yield(true)
    end
    seen[#seen + 1] = "end"
    return true -- returning ends a coroutine, whatever it returns
  end)
  t:set(2)
  wait(function() return seen[4] == "end" end)
  ba.sleep(20)
  eq(#seen, 4)
  eq(t:cancel(), nil)
end)

check.job("yield(false) ends it for good", function()
  local n, closed, after = 0, false, false
  local t = ba.timer(function()
    local guard <close> = setmetatable({}, {__close = function() closed = true end})
    n = n + 1
    coroutine.yield(true)
    n = n + 1
    coroutine.yield(false)
    after = true
  end)
  t:set(2)
  wait(function() return n == 2 end)
  ba.sleep(20)
  eq(after, false)
  eq(t:cancel(), nil)
  eq(closed, true, "its variable was closed")
  t:set(1) -- a function starts anew
  wait(function() return n == 3 end)
  t:cancel()
end)

check.job("set between two yields keeps the coroutine", function()
  local times, t = {}, nil
  t = ba.timer(function()
    while true do
      times[#times + 1] = ba.clock()
      if #times == 2 then t:set(50) end
      if #times == 3 then return end
      coroutine.yield(true)
    end
  end)
  t:set(1)
  wait(function() return #times == 3 end)
  ok(times[3] - times[2] >= 50)
end)

check.job("a cancelled coroutine goes on where it was", function()
  local at = {}
  local t = ba.timer(function()
    at[#at + 1] = "a"
    coroutine.yield(true)
    at[#at + 1] = "b"
  end)
  t:set(1)
  wait(function() return at[1] end)
  eq(t:cancel(), true)
  ba.sleep(10)
  eq(#at, 1)
  t:set(1)
  wait(function() return at[2] end)
  eq(at[2], "b")
end)

check.job("the coroutine may sleep and yield", function()
  local steps = {}
  local t = ba.timer(function()
    for i = 1, 2 do
      ba.sleep(3)
      steps[#steps + 1] = i
      coroutine.yield(true)
    end
  end)
  t:set(1)
  wait(function() return steps[2] end)
end)

check.job("a coroutine object as callback", function()
  local seen = {}
  local co = coroutine.create(function()
    seen[#seen + 1] = 1
    coroutine.yield(true)
    seen[#seen + 1] = 2
    ba.sleep(5)
    seen[#seen + 1] = 3
    coroutine.yield(true)
    seen[#seen + 1] = 4
  end)
  local t = ba.timer(co)
  t:set(2)
  wait(function() return seen[4] end)
  ba.sleep(10)
  eq(t:cancel(), nil)
  eq(coroutine.status(co), "dead")
end)

check.job("a coroutine object that yields false", function()
  local n = 0
  local t = ba.timer(coroutine.create(function()
    n = n + 1
    coroutine.yield(false)
    n = n + 1
  end))
  t:set(1)
  wait(function() return n == 1 end)
  ba.sleep(20)
  eq(n, 1)
  eq(t:cancel(), nil)
end)

check.job("an unreferenced timer is collected", function()
  local n = 0
  do
    local t = ba.timer(function() n = n + 1 return true end)
    t:set(5)
    wait(function() return n > 0 end)
  end
  wait(function() -- a tick that was on its way held it
    collectgarbage()
    local before = n
    ba.sleep(40)
    return n == before
  end, "its end")
end)

check.job("so is one whose coroutine waits for the next tick", function()
  local n = 0
  local gone = setmetatable({}, {__mode = "k"})
  do
    local t
    t = ba.timer(function()
      while true do
        n = n + 1
        coroutine.yield(t ~= nil) -- refers to its own timer
      end
    end)
    gone[t] = true
    t:set(5)
    wait(function() return n > 1 end)
  end
  wait(function() collectgarbage() return next(gone) == nil end, "the collection")
  local before = n
  ba.sleep(40)
  eq(n, before)
end)

check.job("one that refers to itself is not", function()
  local n = 0
  local gone = setmetatable({}, {__mode = "k"})
  do
    local t = ba.timer(function() n = n + 1 return n < 10 end)
    gone[t] = true
    t:set(3, true)
  end
  collectgarbage()
  collectgarbage()
  wait(function() collectgarbage() return n == 10 end)
  wait(function() collectgarbage() return next(gone) == nil end, "the collection after its end")
end)

check.job("a running callback keeps its timer", function()
  local done = false
  local t
  t = ba.timer(function()
    t = nil
    collectgarbage()
    ba.sleep(10)
    collectgarbage()
    done = true
    return false
  end)
  t:set(10000, false, true)
  wait(function() return done end)
end)

check.job("many timers, in order of their times", function()
  local order, timers = {}, {}
  for i = 1, 1000 do
    local ms = (i * 7919) % 100 + 1
    local due = {earliest = ba.clock() + ms}
    timers[i] = ba.timer(function() order[#order + 1] = due end)
    timers[i]:set(ms)
    due.latest = ba.clock() + ms
  end
  wait(function() return #order == 1000 end)
  for i = 2, #order do
    ok(order[i].latest >= order[i - 1].earliest, "order at " .. i)
  end
end)

check.cosocket("a timer can close a socket", function()
  local listener, port = check.listen(check.echo)
  local got
  local sock = ba.socket.event(function(s)
    assert(ba.socket.connect("127.0.0.1", port))
    got = table.pack(s:read())
  end)
  local t = ba.timer(function() sock:close() end)
  t:set(10)
  check.wait(function() return got end)
  check.results({nil, "closed", n = 2}, table.unpack(got, 1, got.n))
  listener:close()
end)

check.job("clock is an integer and goes on", function()
  local a = ba.clock()
  eq(math.type(a), "integer")
  ba.sleep(5)
  ok(ba.clock() - a >= 4)
end)
