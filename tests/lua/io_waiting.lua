-- File calls wait for a helper thread: what may happen meanwhile, and where nobody can wait.
local check = require "check"
local eq, ok, raises, results = check.eq, check.ok, check.raises, check.results

local base = "cosockd-waiting-" .. os.tmpname():match "[^/]*$"
local disk = ba.openio "disk"
assert(disk:mkdir(base))
local dir = assert(ba.mkio(disk, base))

local function put(name, text)
  local file <close> = ok(dir:open(name, "w"))
  eq(file:write(text), true)
end

local function get(name)
  local file <close> = ok(dir:open(name))
  return file:read "a"
end

check.both("others run meanwhile", function()
  check.others_run(function()
    for i = 1, 20 do put("a", "text" .. i) end
  end)
  eq(get "a", "text20")
end)

check.both("calls on one file do not mix", function()
  local file, n = ok(dir:open("log", "w")), 0
  local lines = {}
  for i = 1, 50 do
    ba.thread.run(function()
      for k = 1, 4 do ok(file:write(i .. ":" .. k .. " ", ("x"):rep(5000), "\n")) end
      n = n + 1
    end)
  end
  check.wait(function() return n == 50 end, "the writers")
  eq(file:close(), true)
  for line in get "log":gmatch "[^\n]+" do
    local i, k = line:match "^(%d+):(%d) x+$"
    eq(#line, #i + 3 + 5000)
    eq((lines[i] or 0) + 1, tonumber(k), "in order for each writer")
    lines[i] = tonumber(k)
  end
end)

check.job("close comes behind what was asked before", function()
  local file, over = ok(dir:open("late", "w")), 0
  for _ = 1, 10 do
    ba.thread.run(function()
      ok(file:write(("y"):rep(100000)))
      over = over + 1
    end)
  end
  eq(file:write "first", true) -- the jobs ask while this waits
  eq(file:close(), true)
  eq(over, 10)
  eq(#get "late", 5 + 10 * 100000)
  raises("closed file", file.write, file, "x")
end)

check.job("a handle that is closed while others wait", function()
  local file, results = ok(dir:open("late")), {}
  ba.thread.run(function() results[1] = #file:read "a" end)
  ba.thread.run(function() results[2] = file:close() end)
  ba.thread.run(function() results[3] = pcall(file.read, file) end)
  check.wait(function() return results[1] and results[2] and results[3] ~= nil end, "three jobs")
  eq(results[1], 5 + 10 * 100000)
  eq(results[2], true)
  eq(results[3], false)
end)

check.job("where Lua cannot suspend the call is made in place", function()
  put("m.lua", "local io = ... return 1")
  local list = {3, 1, 2}
  table.sort(list, function(a, b)
    ok(dir:stat "m.lua")
    return a < b
  end)
  eq(table.concat(list), "123")
  package.preload["test.module"] = function()
    local file = ok(dir:open "m.lua")
    local text = file:read "a"
    file:close()
    return text
  end
  eq(require "test.module", "local io = ... return 1")
  local text
  local t = setmetatable({}, {__gc = function() text = get "m.lua" end})
  t = nil
  collectgarbage()
  collectgarbage()
  eq(text, "local io = ... return 1")
end)

check.job("in coroutines and under pcall", function()
  local co = coroutine.wrap(function()
    for name in dir:files() do coroutine.yield(name, dir:stat(name).size) end
  end)
  local n = 0
  for name, size in co do
    n = n + 1
    ok(size > 0, name)
  end
  ok(n >= 4, n)
  results({true, nil, "notfound"}, pcall(dir.open, dir, "missing"))
end)

check.job("a forgotten file is closed", function()
  for _ = 1, 100 do ok(dir:open "a") end
  collectgarbage()
  local file = ok(dir:open "a")
  eq(dir:type(file), true)
  eq(dir:type(dir), false)
  file:close()
  eq(dir:type(file), false)
end)

check.both("a cosocket reads a file while its peer sends", function()
  local sock, peer = check.pair()
  local got
  sock:event(function(s)
    put("b", s:read())
    got = s:read()
  end, "s")
  peer:write "one"
  check.wait(function() return dir:stat "b" and get "b" == "one" end, "the file")
  peer:write "two"
  check.wait(function() return got end, "the second read")
  eq(got, "two")
  peer:close()
  dir:remove "b"
end)

check.job("clean up", function()
  for name in dir:files() do eq(dir:remove(name), true) end
  eq(disk:rmdir(base), true)
end)
