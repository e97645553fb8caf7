-- ba.thread, ba.sleep (ba-api C.1)
local check = require "check"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait

check.both("a job never starts inside the call", function()
  local ran = false
  results({}, ba.thread.run(function() ran = true end))
  eq(ran, false)
  wait(function() return ran end)
end)

check.both("jobs start in the order of the calls", function()
  local order = {}
  for i = 1, 1000 do ba.thread.run(function() order[#order + 1] = i end) end
  wait(function() return #order == 1000 end)
  for i = 1, 1000 do eq(order[i], i) end
end)

check.both("a job that waits holds up nobody", function()
  local slow, quick
  ba.thread.run(function() ba.sleep(100) slow = true end)
  ba.thread.run(function() quick = true end)
  wait(function() return quick end)
  eq(slow, nil)
  wait(function() return slow end)
end)

check.both("an error in a job is its own", function()
  local after
  ba.thread.run(function() error "expected in the log: job" end)
  ba.thread.run(function() after = true end)
  wait(function() return after end)
end)

check.both("the jobs of an object run one after the other", function()
  local t = ba.thread.create()
  local order, inside = {}, 0
  for i = 1, 5 do
    t:run(function()
      inside = inside + 1
      eq(inside, 1, "jobs at a time")
      ba.sleep(6 - i)
      order[#order + 1] = i
      inside = inside - 1
    end)
  end
  t:run(function() inside = 0 error "expected in the log: job of an object" end)
  t:run(function() order[#order + 1] = 6 end)
  wait(function() return #order == 6 end)
  for i = 1, 6 do eq(order[i], i) end
end)

check.both("an object lives while it has jobs, and no longer", function()
  local n = 0
  local weak = setmetatable({}, {__mode = "k"})
  do
    local t = ba.thread.create()
    weak[t] = true
    for _ = 1, 3 do t:run(function() ba.sleep(5) n = n + 1 end) end
  end
  wait(function() collectgarbage() return n == 3 end)
  wait(function() collectgarbage() return next(weak) == nil end, "the collection")
end)

check.both("two objects do not wait for each other", function()
  local a, b = ba.thread.create(), ba.thread.create()
  local slow, quick
  a:run(function() ba.sleep(50) slow = true end)
  b:run(function() quick = not slow end)
  wait(function() return slow end)
  eq(quick, true)
end)

check.both("a job may give more jobs, to its own object too", function()
  local t = ba.thread.create()
  local n = 0
  local function again()
    n = n + 1
    if n < 100 then t:run(again) end
  end
  t:run(again)
  wait(function() return n == 100 end)
end)

check.both("dbg lists the running jobs", function()
  local t = ba.thread.create()
  local release
  t:run(function() wait(function() return release end) end)
  ba.sleep(1)
  eq(#t:dbg(), 1)
  local threads = ba.thread.dbg()
  ok(#threads >= 1)
  for _, thread in ipairs(threads) do
    eq(type(thread), "thread")
    ok(#debug.traceback(thread) > 0)
  end
  release = true
  wait(function() return #t:dbg() == 0 end)
end)

check.both("configure", function()
  local n = ba.thread.configure()
  eq(math.type(n), "integer")
  eq(ba.thread.configure(n + 2), n + 2)
  eq(ba.thread.configure(1), n + 2, "it never shrinks")
  raises("threads", ba.thread.configure, 0)
end)

check.both("wrong arguments raise", function()
  raises("function expected", ba.thread.run)
  raises("function expected", ba.thread.run, "x")
  raises("function expected", function() ba.thread.create():run() end)
  raises("ba.thread expected", function() ba.thread.create().run(1, print) end)
end)

check.both("too many jobs are refused with an error", function()
  local refused, n = nil, 0
  local go
  local t = ba.thread.create()
  t:run(function() wait(function() return go end) end)
  for _ = 1, 200 do -- in slices: creating them all at once would be an overrun
    for _ = 1, 1000 do
      local good, err = pcall(t.run, t, function() n = n + 1 end)
      if not good then refused = err break end
    end
    if refused then break end
    ba.sleep(0)
  end
  ok(refused and refused:find "too many jobs", refused)
  go = true
  wait(function() return n >= 99999 end)
  local after
  t:run(function() after = true end)
  wait(function() return after end)
end)

check.both("sleep", function()
  local start = ba.clock()
  eq(ba.sleep(30), true)
  ok(ba.clock() - start >= 29, "it woke early")
  eq(ba.sleep(0), true)
  eq(ba.sleep(1.9), true)
  raises("negative", ba.sleep, -1)
  raises("number expected", ba.sleep)
end)

check.both("sleep(0) lets others run", function()
  local n = 0
  ba.thread.run(function() n = n + 1 end)
  ba.sleep(0)
  eq(n, 1)
end)
