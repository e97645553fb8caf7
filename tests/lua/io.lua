-- io objects (ba-api C.4), and io:open as a method in script mode
local check = require "check"
local eq, ok, raises, results = check.eq, check.ok, check.raises, check.results

-- A folder of this test's own, below the data folder.
local base = "cosockd-test-" .. os.tmpname():match "[^/]*$"
local disk = ba.openio "disk"
local made = assert(disk:mkdir(base))
local dir = assert(ba.mkio(disk, base))

local function put(name, text)
  local fh = ok(dir:open(name, "w"))
  eq(fh:write(text), true)
  eq(fh:close(), true)
end

local function get(name)
  local fh = ok(dir:open(name))
  local text = fh:read("a")
  fh:close()
  return text
end

check.job("openio and mkio", function()
  eq(made, true)
  eq(type(disk), "userdata")
  ok(ba.openio "home")
  eq(ba.openio "net", nil)
  eq(ba.openio "nonsense", nil)
  raises("string expected", ba.openio)
  results({nil, "notfound"}, ba.mkio(disk, "no such folder"))
  raises("io expected", ba.mkio, "x", "y")
  for n = 1, 200 do -- each on a stack of its own, which has no room for them twice
    results({nil, "notfound"}, coroutine.wrap(function() return ba.mkio(disk, "no such folder", table.unpack({}, 1, n)) end)())
  end
  eq(ba.mkio "/":stat "etc".isdir, true, "any folder of the system")
  for name, io in pairs(ba.io()) do eq(io == ba.openio(name), true, name) end
  eq(ba.io().disk == dir, false)
  eq(dir == ba.mkio(disk, base), true)
  eq(disk:type(), "disk")
  eq((disk:resourcetype()), "disk")
end)

check.job("write and read", function()
  put("a", "hello")
  eq(get "a", "hello")
  put("a", "")
  eq(get "a", nil, "an empty file")
  local fh = ok(dir:open("a", "w"))
  eq(fh:write("one", 2, "three", 4.5), true)
  fh:close()
  eq(get "a", "one2three4.5")
  eq(get "/a", "one2three4.5", "a leading slash means the folder")
end)

check.job("read formats", function()
  put("a", "0123456789")
  local fh = ok(dir:open("a", "r"))
  eq(fh:read(3), "012")
  results({"3", "45", "6789"}, fh:read(1, 2, "*a"))
  eq(fh:read(), nil)
  eq(fh:read(1), nil)
  eq(fh:read(0), nil)
  eq(fh:read("a"), nil)
  eq(fh:seek(8), 8)
  eq(fh:read(0), "")
  results({"89", nil}, fh:read(5, 5))
  eq(fh:seek("set"), 0)
  eq(fh:read(2.9), "01")
  eq(fh:seek("cur", 2), 4)
  eq(fh:seek("end", -1), 9)
  eq(fh:read(), "9")
  results({nil, "invalidparam"}, fh:seek(-1))
  raises("count", fh.read, fh, -1)
  raises("expected", fh.read, fh, "l")
  raises("expected", fh.read, fh, {})
  fh:close()
end)

check.job("read without argument gives the file in pieces", function()
  local text = check.pattern(100001)
  put("big", text)
  local fh, parts = ok(dir:open("big")), {}
  while true do
    local data = fh:read()
    if not data then break end
    ok(#data > 0 and #data <= 65536)
    parts[#parts + 1] = data
  end
  fh:close()
  ok(#parts > 1)
  ok(table.concat(parts) == text)
  ok(get "big" == text)
end)

check.job("modes", function()
  put("a", "12345")
  local fh = ok(dir:open("a", "a"))
  fh:write("67")
  results({nil, "failed"}, fh:read(1))
  fh:close()
  eq(get "a", "1234567")
  fh = ok(dir:open("a", "r+b"))
  fh:write("AB")
  eq(fh:read("a"), "34567")
  fh:close()
  fh = ok(dir:open("a", "a+"))
  fh:write("!")
  fh:seek(0)
  eq(fh:read("a"), "AB34567!")
  fh:close()
  fh = ok(dir:open("a", "w+"))
  fh:write("new")
  fh:seek(0)
  eq(fh:read("a"), "new")
  eq(fh:flush(), true)
  fh:close()
  fh = ok(dir:open("a", "r"))
  results({nil, "failed"}, fh:write("x"))
  fh:close()
  raises("mode", dir.open, dir, "a", "x")
  raises("mode", dir.open, dir, "a", "rw")
  raises("mode", dir.open, dir, "a", "")
end)

check.job("closed handles", function()
  local fh = ok(dir:open("a"))
  ok(tostring(fh):find "io file")
  eq(fh:close(), true)
  eq(fh:close(), true)
  raises("closed file", fh.read, fh)
  raises("closed file", fh.write, fh, "x")
  raises("closed file", fh.seek, fh, 0)
  ok(tostring(fh):find "closed")
  local kept
  do
    local f <close> = ok(dir:open("a"))
    kept = f
  end
  raises("closed file", kept.read, kept)
  raises("io file expected", kept.read, disk)
end)

check.job("handles that a finalizer closes in the middle of a call", function()
  for _, name in ipairs {"read", "seek", "write"} do
    local fh = ok(dir:open("a", "r+"))
    raises("closed file", check.with_finalizer, function() fh:close() end, fh[name], fh, name == "write" and "x" or nil)
  end
  local fh = ok(dir:open("a"))
  eq(check.with_finalizer(function() fh:close() end, fh.close, fh), true)
end)

check.job("files that are forgotten do not leak descriptors", function()
  for _ = 1, 20000 do dir:open("a") end
  collectgarbage()
  ok(dir:open("a")):close()
end)

check.job("what is not there, and what is no file", function()
  results({nil, "notfound", "ENOENT"}, dir:open("missing"))
  results({nil, "notfound"}, dir:open("missing/a", "w"))
  results({nil, "notfound"}, dir:open("a/b"))
  dir:mkdir("sub")
  results({nil, "noaccess"}, dir:open("sub"))
  results({nil, "noaccess"}, dir:open("sub", "w"))
  results({nil, "noaccess"}, dir:open(""))
  results({nil, "invalidname"}, dir:open("a\0b"))
  results({nil, "invalidname"}, dir:open(("x"):rep(300)))
  raises("string expected", dir.open, dir)
  dir:rmdir("sub")
end)

check.job("no path leads out", function()
  put("inside", "secret")
  ok(dir:mkdir("jail"))
  local jail = ok(ba.mkio(dir, "jail"))
  for _, path in ipairs {"../inside", "/../inside", "x/../../inside", "./../inside", "..", "../..", "/etc/passwd",
                         "//etc/passwd", "..//inside"} do
    local fh, err = jail:open(path)
    if fh then error("opened " .. path) end
    ok(err == "noaccess" or err == "notfound", path .. ": " .. err)
    eq(jail:stat(path), nil)
    eq(jail:files(path), nil)
  end
  results({nil, "noaccess"}, jail:mkdir("../new"))
  results({nil, "noaccess"}, jail:remove("../inside"))
  results({nil, "noaccess"}, jail:rename("../inside", "mine"))
  results({nil, "noaccess"}, jail:rmdir("../jail"))
  eq(jail:loadfile("../inside"), nil)
  results({nil, "noaccess"}, ba.mkio(jail, ".."))
  eq(get "inside", "secret")
  -- Inside, ".." is a folder like others.
  eq(dir:stat("jail/../inside").size, 6)
  dir:rmdir("jail")
end)

check.job("stat", function()
  put("a", "12345")
  local st = ok(dir:stat("a"))
  eq(st.name, "a")
  eq(st.size, 5)
  eq(st.isdir, false)
  eq(st.type, "regular")
  ok(math.abs(st.mtime - os.time()) < 100)
  st = ok(dir:stat(""))
  eq(st.isdir, true)
  eq(st.type, "directory")
  results({nil, "notfound"}, dir:stat("missing"))
end)

check.job("files", function()
  ok(dir:mkdir("list"))
  local list = ok(ba.mkio(dir, "list"))
  local names = {}
  for name in list:files("") do names[#names + 1] = name end
  eq(#names, 0)
  for i = 1, 300 do list:open("f" .. i, "w"):close() end
  list:mkdir("d")
  local seen, n = {}, 0
  for name in dir:files("list") do seen[name], n = true, n + 1 end
  eq(n, 301)
  ok(seen.f1 and seen.f300 and seen.d)
  n = 0
  for name, isdir, mtime, size in list:files("/", true) do
    n = n + 1
    eq(isdir, name == "d")
    eq(math.type(mtime), "integer")
    if name ~= "d" then eq(size, 0) end
  end
  eq(n, 301)
  for _ in list:files("") do break end -- left early: closed by the loop
  results({nil, "notfound", "ENOENT"}, dir:files("missing"))
  raises("for iterator", function() for _ in dir:files("missing") do end end) -- not about a value to be closed
  results({nil, "notfound"}, dir:files("a"))
  results({nil, "notempty"}, dir:rmdir("list"))
  for i = 1, 300 do eq(list:remove("f" .. i), true) end
  eq(list:rmdir("d"), true)
  eq(dir:rmdir("list"), true)
end)

check.job("mkdir, rmdir, remove, rename", function()
  eq(dir:mkdir("d/"), true)
  results({nil, "exist"}, dir:mkdir("d"))
  results({nil, "notfound"}, dir:mkdir("x/y"))
  put("d/f", "1")
  results({nil, "notempty"}, dir:rmdir("d"))
  results({nil, "notfound"}, dir:rmdir("d/f"))
  results({nil, n = 1}, dir:remove("d"))
  eq(dir:rename("d/f", "g"), true)
  eq(get "g", "1")
  put("h", "2")
  eq(dir:rename("h", "g"), true)
  eq(get "g", "2")
  results({nil, "notfound"}, dir:rename("nix", "g"))
  eq(dir:remove("g"), true)
  results({nil, "notfound"}, dir:remove("g"))
  eq(dir:rmdir("d"), true)
  for _, name in ipairs {"", "/", ".", "..", "a/.", "a/.."} do
    results({nil, n = 1}, dir:mkdir(name))
    results({nil, n = 1}, dir:remove(name))
    results({nil, n = 1}, dir:rmdir(name))
    results({nil, n = 1}, dir:rename("a", name))
    results({nil, n = 1}, dir:rename(name, "z"))
  end
  eq(dir:stat("z"), nil)
end)

check.job("realpath", function()
  local path = ok(dir:realpath("a"))
  ok(path:find("/" .. base .. "/a", 1, true), path)
  eq(path:sub(1, 1), "/")
  results({nil, "notfound"}, dir:realpath("missing"))
end)

check.both("loadfile and dofile", function()
  put("m.lua", "#!/usr/bin/lua\nx = (x or 0) + 1\nreturn x, ...")
  local env = {}
  local f = ok(dir:loadfile("m.lua", env))
  results({1, "arg"}, f("arg"))
  results({2}, dir:dofile("m.lua", env))
  eq(env.x, 2)
  put("global.lua", "return check_io_global")
  _G.check_io_global = "seen"
  eq(dir:dofile("global.lua"), "seen")
  _G.check_io_global = nil
  put("wrong.lua", "\n\nx = = 1")
  local none, err = dir:loadfile("wrong.lua")
  eq(none, nil)
  ok(err:find "wrong.lua:3:", err)
  raises("wrong.lua:3:", dir.dofile, dir, "wrong.lua")
  raises("missing.lua.*notfound", dir.dofile, dir, "missing.lua")
  results({nil, "notfound"}, dir:loadfile("missing.lua"))
  put("raises.lua", "\nerror 'inside'")
  raises("raises.lua:2: inside", dir.dofile, dir, "raises.lua")
  put("waits.lua", "ba.sleep(2) return 'waited'")
  eq(dir:dofile("waits.lua"), "waited")
  put("code.luac", string.dump(function() end))
  none, err = dir:loadfile("code.luac")
  eq(none, nil)
  ok(err:find "binary", err)
end)

check.job("script mode: io:open gives one of these handles", function()
  local path = ok(dir:realpath("a"))
  put("a", "line 1\nline 2\n")
  local fh = ok(io:open(path))
  eq(fh:read(), "line 1\nline 2\n", "a buffer's worth, not a line")
  eq(fh:read(), nil)
  fh:close()
  fh = ok(io:open(path, "w"))
  fh:write("x")
  fh:close()
  fh = ok(io.open(path))
  eq(io.type(fh), "file", "the plain form is Lua's")
  eq(fh:read("l"), "x")
  fh:close()
  results({nil, "notfound"}, io:open(path .. ".missing"))
  results({nil, n = 1}, io.open(path .. ".missing"))
end)

check.job("clean up", function()
  for _, name in ipairs {"a", "big", "inside", "m.lua", "global.lua", "wrong.lua", "raises.lua", "waits.lua",
                         "code.luac"} do
    dir:remove(name)
  end
  results({true}, disk:rmdir(base))
end)
