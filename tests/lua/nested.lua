-- Coroutines of the script inside tasks, pcall, and places that cannot wait (ba-api A.3, A.8)
local check = require "check"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait

local function soon(f) ba.thread.run(function() ba.sleep(5) f() end) end

check.cosocket("wrap: read, write and owner inside", function(sock)
  local listener, port = check.listen(check.echo)
  ok(ba.socket.connect("127.0.0.1", port))
  local lines = coroutine.wrap(function()
    for i = 1, 3 do
      sock:write("line " .. i)
      coroutine.yield(sock:read(), sock:owner(), ba.socket.getsock() == sock)
    end
    return "end"
  end)
  for i = 1, 3 do results({"line " .. i, true, true}, lines()) end
  eq(lines(), "end")
  listener:close()
end)

check.both("plain yield and resume keep their meaning", function()
  local co = coroutine.create(function(a, b)
    ba.sleep(2)
    local c, d = coroutine.yield(a + b)
    ba.sleep(2)
    local e = coroutine.yield(c .. d)
    return e, "done"
  end)
  results({true, 3}, coroutine.resume(co, 1, 2))
  eq(coroutine.status(co), "suspended")
  results({true, "cd"}, coroutine.resume(co, "c", "d"))
  results({true, "e", "done"}, coroutine.resume(co, "e"))
  eq(coroutine.status(co), "dead")
  results({false, "cannot resume dead coroutine"}, coroutine.resume(co))
end)

check.both("coroutines within coroutines", function()
  local function nest(depth)
    if depth == 0 then
      ba.sleep(3)
      return "bottom"
    end
    return coroutine.wrap(function() return nest(depth - 1) end)()
  end
  eq(nest(20), "bottom")
end)

check.both("errors and dead coroutines", function()
  local co = coroutine.create(function() ba.sleep(1) error("oops", 0) end)
  results({false, "oops"}, coroutine.resume(co))
  eq(coroutine.status(co), "dead")
  local f = coroutine.wrap(function() ba.sleep(1) error({code = 7}) end)
  local good, err = pcall(f)
  eq(good, false)
  eq(err.code, 7)
end)

check.both("status, running, isyieldable, close", function()
  local outer = coroutine.running()
  local co
  co = coroutine.create(function()
    eq(coroutine.running(), co)
    eq(coroutine.status(co), "running")
    eq(coroutine.status(outer), "normal")
    eq(coroutine.isyieldable(), true)
    ba.sleep(1)
    coroutine.yield()
  end)
  coroutine.resume(co)
  eq(coroutine.close(co), true)
  eq(coroutine.status(co), "dead")
end)

check.both("one that waits in the engine cannot be resumed or closed by others", function()
  local inner, finished
  ba.socket.event(function()
    inner = coroutine.create(function() ba.sleep(20) end)
    coroutine.resume(inner)
    finished = true
  end)
  local good, err = coroutine.resume(inner)
  eq(good, false)
  ok(err:find "waits" or err:find "suspended", err)
  raises("", coroutine.close, inner)
  wait(function() return finished end)
end)

check.both("a plain yield of the task itself is an error of its own", function()
  local after
  local s = ba.socket.event(function()
    coroutine.yield("expected in the log: plain yield")
    after = true
  end)
  results({"terminated", false}, s:state())
  ba.sleep(5)
  eq(after, nil)
end)

check.both("pcall and xpcall around calls that wait", function()
  local a, b = check.pair()
  soon(function() b:write("x") end)
  check.in_cosocket(function() ba.sleep(1) end)
  results({true, "x"}, pcall(a.read, a))
  results({true, nil, "timeout"}, pcall(a.read, a, 5))
  local handled
  local good, err = xpcall(function()
    ba.sleep(1)
    error("inside", 0)
  end, function(e) handled = e return "handled " .. e end)
  eq(good, false)
  eq(err, "handled inside")
  eq(handled, "inside")
  a:close()
  b:close()
end)

check.both("to-be-closed variables and iterators that wait", function()
  local closed
  do
    local guard <close> = setmetatable({}, {__close = function() ba.sleep(2) closed = true end})
    ba.sleep(1)
  end
  eq(closed, true)
  local n = 0
  for i in coroutine.wrap(function() for i = 1, 3 do ba.sleep(1) coroutine.yield(i) end end) do n = n + i end
  eq(n, 6)
  local sum = 0
  local function iterator(_, i) ba.sleep(1) if i < 3 then return i + 1 end end
  for i in iterator, nil, 0 do sum = sum + i end
  eq(sum, 6)
end)

check.both("metamethods that wait", function()
  local t = setmetatable({}, {
    __index = function(_, k) ba.sleep(1) return k .. "!" end,
    __add = function() ba.sleep(1) return 42 end,
    __call = function(_, x) ba.sleep(1) return x end,
  })
  eq(t.key, "key!")
  eq(t + 1, 42)
  eq(t(7), 7)
end)

check.both("where Lua cannot wait there is a clear error", function()
  raises("ba.sleep would have to wait", table.sort, {3, 2, 1}, function(a, b) ba.sleep(1) return a < b end)
  raises("ba.sleep would have to wait", string.gsub, "abc", ".", function() ba.sleep(1) end)
  raises("ba.sleep would have to wait", tostring, setmetatable({}, {__tostring = function() ba.sleep(1) end}))
  local sock = check.pair()
  raises("read would have to wait", string.gsub, "abc", ".", function() sock:read() end)
  sock:close()
  -- In a coroutine that was started there, too: it could not hand the wait on.
  raises("would have to wait", string.gsub, "abc", ".", function()
    local good, err = coroutine.resume(coroutine.create(function() ba.sleep(1) end))
    if not good then error(err, 0) end
  end)
end)

check.both("the top level of a required module cannot wait", function()
  package.preload["test.sleeps"] = function() ba.sleep(1) return {} end
  raises("ba.sleep would have to wait", require, "test.sleeps")
  package.preload["test.fine"] = function() return {sleep = function() return ba.sleep(1) end} end
  eq(require "test.fine".sleep(), true)
end)

check.both("ten thousand nested waits leave no trace", function()
  local f = coroutine.wrap(function()
    while true do
      ba.sleep(0)
      coroutine.yield(1)
    end
  end)
  local n = 0
  for _ = 1, 2000 do n = n + f() end
  eq(n, 2000)
end)

check.both("an endless loop ends with an error at its line; others go on", function()
  local ticks = 0
  local t = ba.timer(function() ticks = ticks + 1 return true end)
  t:set(1)
  local s = ba.socket.event(function(s)
    s:read(1)
    while true do end -- expected in the log: CPU budget
  end)
  wait(function() return s:state() == "terminated" end)
  local before = ticks
  wait(function() return ticks > before + 5 end)
  t:cancel()
end)

check.both("an endless loop in a nested coroutine, under pcall", function()
  local s = ba.socket.event(function(s)
    s:read(1)
    while true do
      pcall(coroutine.wrap(function() while true do end end))
    end
  end)
  wait(function() return s:state() == "terminated" end)
end)

check.both("the coroutine of a job is not the script's to resume or close", function()
  local known, other, done = {}, nil, nil
  for _, co in ipairs(ba.thread.dbg()) do known[co] = true end
  ba.thread.run(function()
    ba.sleep(1)
    done = coroutine.running()
  end)
  for _, co in ipairs(ba.thread.dbg()) do other = known[co] and other or co end
  eq(coroutine.status(other), "suspended") -- it has not begun
  local resumed, why = coroutine.resume(other)
  eq(resumed, false)
  ok(why:find "coroutine of a job", why)
  raises("coroutine of a job", coroutine.close, other)
  wait(function() return done end)
  eq(done, other)
  wait(function() return coroutine.status(other) == "dead" end)
  eq(select(2, coroutine.resume(other)), "cannot resume dead coroutine")
  eq(coroutine.close(other), true)
  ba.thread.run(function() -- one that fails; expected in the log
    other = coroutine.running()
    error "this job fails"
  end)
  wait(function() return coroutine.status(other) == "dead" end)
  eq(coroutine.close(other), true)
end)

check.both("nor is that of a timer between two ticks", function()
  local co, ticks = nil, 0
  local t = ba.timer(function()
    co = coroutine.running()
    while true do
      ticks = ticks + 1
      coroutine.yield(true)
    end
  end)
  t:set(1)
  wait(function() return ticks > 1 end)
  local resumed, why = coroutine.resume(co)
  eq(resumed, false)
  ok(why:find "timer", why)
  raises("timer", coroutine.close, co)
  local before = ticks
  wait(function() return ticks > before + 1 end)
  t:cancel()
end)
