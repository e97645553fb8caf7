-- Each call that can wait, in each place where Lua can suspend and in each where it cannot (ba-api A.1, A.3, A.8)
local check = require "check"
local eq, ok, wait = check.eq, check.ok, check.wait

-- ---- calls: each is made so that it has to wait; begin returns the call, and what ends the wait ----

local calls = {}

local made = {} -- sockets, closed at the end of a test
local function pair()
  local a, b = check.pair()
  made[#made + 1], made[#made + 2] = a, b
  return a, b
end
local function listen()
  local listener, port = check.listen(nil)
  made[#made + 1] = listener
  return port
end
local function test(name, f)
  check.job(name, function()
    local good, err = pcall(f)
    while #made > 0 do table.remove(made):close() end
    if not good then error(err, 0) end
  end)
end

function calls.read()
  local a, b = pair()
  return function() return a:read() end, function() b:write("x") end, "x"
end

function calls.write()
  local a, b = pair()
  local block = check.bulk("x", 16000000) -- more than TCP takes
  return function() return a:write(block) end, function()
    ba.thread.run(function() while b:read() do end end)
  end, true
end

calls["ba.sleep"] = function() return function() return ba.sleep(5) end, function() end, true end

function calls.connect()
  local port = listen()
  return function()
    local sock = ba.socket.connect("127.0.0.1", port)
    made[#made + 1] = sock
    return sock ~= nil
  end, function() end, true
end

function calls.toip() return function() return ba.socket.toip("localhost") end, function() end, "127.0.0.1" end

function calls.relay()
  local a, b = pair()
  local c, d = pair()
  return function() return type(ba.socket.relay(b, c)) end, function() a:close() d:close() end, "table"
end

-- ---- places ----

local can = {
  ["pcall"] = function(f) return select(2, assert(pcall(f))) end,
  ["xpcall"] = function(f) return select(2, assert(xpcall(f, debug.traceback))) end,
  ["a coroutine"] = function(f) return select(2, assert(coroutine.resume(coroutine.create(f)))) end,
  ["coroutine.wrap"] = function(f) return coroutine.wrap(f)() end,
  ["wrap in wrap in pcall"] = function(f)
    return select(2, pcall(coroutine.wrap(function() return coroutine.wrap(f)() end)))
  end,
  ["an iterator"] = function(f) for v in function(_, v) if v == nil then return f() end end do return v end end,
  ["__index"] = function(f) return setmetatable({}, {__index = function() return f() end}).x end,
  ["__newindex"] = function(f)
    local r
    local t = setmetatable({}, {__newindex = function() r = f() end})
    t.x = 1
    return r
  end,
  ["__call"] = function(f) return setmetatable({}, {__call = function() return f() end})() end,
  ["__add"] = function(f) return setmetatable({}, {__add = function() return f() end}) + 1 end,
  ["__concat"] = function(f) return setmetatable({}, {__concat = function() return f() end}) .. "x" end,
  ["__eq"] = function(f)
    local r
    local t = setmetatable({}, {__eq = function() r = f() return true end})
    return t == setmetatable({}, getmetatable(t)) and r
  end,
  ["__lt"] = function(f)
    local r
    local t = setmetatable({}, {__lt = function() r = f() return true end})
    return t < t and r
  end,
  ["__len"] = function(f) return #setmetatable({}, {__len = function() return f() end}) end,
  ["__close"] = function(f)
    local r
    do local guard <close> = setmetatable({}, {__close = function() r = f() end}) end
    return r
  end,
  ["__close on the way of an error"] = function(f)
    local r
    local good, err = pcall(function()
      local guard <close> = setmetatable({}, {__close = function() r = f() end})
      error("inside", 0)
    end)
    eq(good, false)
    eq(err, "inside")
    return r
  end,
  ["dofile"] = function(f)
    local name = os.tmpname()
    local file = ok(_G.io.open(name, "w"))
    file:write("return yield_test_f()")
    file:close()
    _G.yield_test_f = f
    local r = dofile(name)
    os.remove(name)
    _G.yield_test_f = nil
    return r
  end,
}

local cannot = {
  ["sort comparator"] = function(f) table.sort({3, 2, 1}, function(a, b) f() return a < b end) end,
  ["gsub function"] = function(f) return (string.gsub("abc", ".", function() f() end)) end,
  ["top level of a required module"] = function(f)
    package.loaded["yield.test"], package.preload["yield.test"] = nil, function() f() return true end
    require "yield.test"
  end,
  ["__tostring"] = function(f) return tostring(setmetatable({}, {__tostring = function() f() return "x" end})) end,
  ["__index behind ipairs"] = function(f)
    for _ in ipairs(setmetatable({}, {__index = function(_, i) f() return i < 3 and i or nil end})) do end
  end,
  ["__index behind table.concat"] = function(f)
    return table.concat(setmetatable({}, {__index = function() f() return "x" end, __len = function() return 2 end}))
  end,
  ["reader of load"] = function(f) assert(load(function() f() end)) end,
  ["coroutine inside a sort comparator"] = function(f)
    table.sort({3, 2, 1}, function(a, b)
      local good, err = coroutine.resume(coroutine.create(f))
      if not good then error(err, 0) end
      return a < b
    end)
  end,
  ["coroutine.close"] = function(f)
    local why
    local co = coroutine.create(function()
      local guard <close> = setmetatable({}, {__close = function() local good, err = pcall(f) why = not good and err end})
      coroutine.yield()
    end)
    coroutine.resume(co)
    coroutine.close(co)
    error(why or "it could wait", 0)
  end,
  ["finalizer"] = function(f)
    local why
    setmetatable({}, {__gc = function() local good, err = pcall(f) why = not good and err or "it could wait" end})
    collectgarbage()
    collectgarbage()
    error(why or "no finalizer ran", 0)
  end,
}

for name, begin in pairs(calls) do
  for place, run in pairs(can) do
    test(("%s in %s"):format(name, place), function()
      local call, finish, expected = begin()
      local waited
      ba.thread.run(function() waited = true finish() end)
      eq(run(call), expected)
      ok(waited, "it did not wait")
    end)
  end
  for place, run in pairs(cannot) do
    test(("%s in a %s: a clear error"):format(name, place), function()
      local call = begin()
      local good, err = pcall(run, call)
      eq(good, false)
      ok(tostring(err):find(name .. " would have to wait here", 1, true), err)
    end)
  end
end

-- The calls that only a socket's own coroutine makes.
for place, run in pairs(can) do
  test("disable, read and owner of a cosocket in " .. place, function()
    local a, b = pair()
    local results
    a:event(function(s)
      results = {
        run(function() return s:disable() end),
        run(function() return s:read() end),
        run(function() return s:owner() and ba.socket.getsock() == s end),
      }
    end, "s")
    eq(a:state(), "disabled")
    a:enable("enabled")
    eq(a:state(), "read")
    b:write("data")
    wait(function() return results end)
    eq(results[1], "enabled")
    eq(results[2], "data")
    eq(results[3], true)
  end)
  test("accept in " .. place, function()
    local listener = ok(ba.socket.bind(0, {intf = "127.0.0.1"}))
    made[1] = listener
    local _, port = listener:sockname()
    local accepted
    listener:event(function(s) accepted = run(function() return s:accept() end) end)
    local sock = ok(ba.socket.connect("127.0.0.1", port))
    wait(function() return accepted end)
    eq(select(2, accepted:peername()), select(2, sock:sockname()))
    made[2], made[3] = sock, accepted
  end)
end
