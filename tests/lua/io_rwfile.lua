-- require "rwfile" (ba-api C.4)
local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" -- tests/lua
package.path = here .. "/../../scripts/lib/?.lua;" .. package.path
local check = require "check"
local rwfile = require "rwfile"
local eq, ok, raises, results = check.eq, check.ok, check.raises, check.results

local base = "cosockd-rwfile-" .. os.tmpname():match "[^/]*$"
local disk = ba.openio "disk"
assert(disk:mkdir(base))
local io = assert(ba.mkio(disk, base))

local function names()
  local list = {}
  for name in io:files() do list[#list + 1] = name end
  return table.concat(list, " ")
end

check.both("a file", function()
  results({nil, "notfound"}, rwfile.file(io, "a"))
  eq(rwfile.file(io, "a", "hello"), true)
  eq(rwfile.file(io, "a"), "hello")
  eq(rwfile.file(io, "a", ""), true)
  eq(rwfile.file(io, "a"), "", "an empty file is no error")
  eq(rwfile.file(io, "a", ("x"):rep(300000)), true)
  eq(#rwfile.file(io, "a"), 300000)
  eq(names(), "a", "nothing else is left")
  results({nil, "notfound"}, rwfile.file(io, "no/such/folder", "x"))
  results({nil, "noaccess"}, rwfile.file(io, "../out", "x"))
  io:mkdir "d"
  ok(not rwfile.file(io, "d", "x"))
  eq(io:stat "d.tmp", nil)
  io:rmdir "d"
  io:remove "a"
end)

check.job("JSON", function()
  results({nil, "notfound"}, rwfile.json(io, "j"))
  eq(rwfile.json(io, "j", {a = {1, 2}, b = "x"}), true)
  local t = rwfile.json(io, "j")
  eq(t.a[2], 2)
  eq(t.b, "x")
  rwfile.file(io, "j", "\xEF\xBB\xBF[7]")
  eq(rwfile.json(io, "j")[1], 7)
  for _, bad in ipairs {"", "{", "{}x"} do
    rwfile.file(io, "j", bad)
    results({nil, "jsonerr"}, rwfile.json(io, "j"))
  end
  eq(rwfile.json(io, "j", false), true)
  eq(rwfile.json(io, "j"), false)
  raises("table key", rwfile.json, io, "j", {[true] = 1})
  io:remove "j"
end)

check.job("many write the same file", function()
  local writers, wrong = 8, nil
  for i = 1, writers do
    ba.thread.run(function()
      for _ = 1, 5 do
        local done, err = rwfile.file(io, "a", tostring(i):rep(100000))
        local data = rwfile.file(io, "a")
        local whole = data and #data == 100000 and data == data:sub(1, 1):rep(100000)
        if not done or not whole then wrong = err or "half a file" end
      end
      writers = writers - 1
    end)
  end
  check.wait(function() return writers == 0 end, "the writers")
  eq(wrong, nil)
  eq(names(), "a", "nothing else is left")
  io:remove "a"
end)

check.job("the folder goes", function()
  eq(names(), "")
  ok(disk:rmdir(base))
end)
