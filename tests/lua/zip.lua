-- ZIP files as io objects (ba.mkio): what is in them, read in every way; what is no ZIP file, or a damaged one.
local check = require "check"
local eq, ok, raises, results = check.eq, check.ok, check.raises, check.results

local path = os.tmpname()
local folder, name = path:match "^(.*)/([^/]*)$"
local io_ = ba.mkio(folder)
after_each(function() os.remove(path) end)

-- A ZIP file of {name, content [, {method =, flags =, size =, packed =, offset =}]}, compressed unless a method is said.
local function zipped(entries, comment)
  local parts, list, at = {}, {}, 0
  for _, entry in ipairs(entries) do
    local name, text, lies = entry[1], entry[2], entry[3] or {}
    local method = lies.method or 8
    local data = method == 8 and ba.deflate(text) or text
    local size, packed, flags = lies.size or #text, lies.packed or #data, lies.flags or 0
    local head = ("<c4I2I2I2I2I2I4I4I4I2I2"):pack("PK\3\4", 20, flags, method, 0x6000, 0x5976, 0, packed, size, #name, 3) .. name .. "xyz"
    list[#list + 1] = ("<c4I2I2I2I2I2I2I4I4I4I2I2I2I2I2I4I4"):pack("PK\1\2", 20, 20, flags, method, 0x6000, 0x5976, 0, packed, size, #name, 2, 1,
                                                                 0, 0, 0, lies.offset or at) .. name .. "xxc"
    parts[#parts + 1] = head .. data
    at = at + #head + #data
  end
  comment = comment or ""
  local directory = table.concat(list)
  return table.concat(parts) .. directory ..
    ("<c4I2I2I2I2I4I4I2"):pack("PK\5\6", 0, 0, #entries, #entries, #directory, at, #comment) .. comment
end

local function write(text)
  local file = assert(io_:open(name, "w"))
  assert(file:write(text))
  file:close()
end

local function open(entries, comment)
  write(zipped(entries, comment))
  return ba.mkio(io_, name)
end

local function read(zio, entry)
  local file, err = zio:open(entry)
  if not file then return nil, err end
  local text, why = file:read "a"
  file:close()
  return text, why
end

local function names(zio, path)
  local list = {}
  for name, isdir in zio:files(path, true) do list[#list + 1] = name .. (isdir and "/" or "") end
  return table.concat(list, " ")
end

local LONG = {}
for i = 1, 12000 do LONG[i] = ("line %d of a text\n"):format(i * 7919 % 30011) end
LONG = table.concat(LONG)

check.job("files and folders", function()
  local zio = assert(open({{"a.txt", "text of a"}, {"dir/", "", {method = 0}}, {"dir/b.txt", LONG}, {"dir/deep/c", "", {method = 0}}, {"no.folder/d", "d"},
                           {"stored", "as it is", {method = 0}}, {"empty", ""}}, "a comment PK\5\6"))
  eq(names(zio), "a.txt dir/ no.folder/ stored empty")
  eq(names(zio, "/"), names(zio))
  eq(names(zio, "dir"), "b.txt deep/")
  eq(names(zio, "/dir/deep/"), "c")
  eq(read(zio, "a.txt"), "text of a")
  eq(read(zio, "/dir/../a.txt"), "text of a")
  ok(read(zio, "dir/b.txt") == LONG)
  eq(read(zio, "stored"), "as it is")
  eq(read(zio, "empty"), nil)
  local stat = assert(zio:stat "dir/b.txt")
  eq(stat.name .. stat.size .. stat.type .. tostring(stat.isdir), "b.txt" .. #LONG .. "regular" .. "false")
  eq(os.date("%Y-%m-%d %H:%M:%S", stat.mtime), "2024-11-22 12:00:00")
  eq(zio:stat "no.folder".isdir, true)
  eq(zio:stat "/".isdir, true)
  results({"zip", "zip"}, zio:type())
  local inner = assert(ba.mkio(zio, "dir"))
  eq(read(inner, "deep/../b.txt") == LONG, true)
  eq(names(assert(ba.mkio(inner, "deep"))), "c")
  for _, name in ipairs {"nothing", "dir/nothing", "../a.txt", "a.txt/", "a.txt/x", "di"} do
    local file, err = inner:open(name)
    eq(file, nil)
    eq(err, "notfound", name)
  end
  results({nil, "noaccess"}, zio:open "dir")
  results({nil, "notfound"}, zio:stat "nothing")
  results({nil, "notfound"}, zio:files "a.txt")
  results({nil, "notfound"}, ba.mkio(zio, "a.txt"))
  for _, mode in ipairs {"w", "a", "r+", "w+"} do results({nil, "noaccess"}, zio:open("a.txt", mode)) end
  for _, name in ipairs {"mkdir", "rmdir", "remove", "rename"} do results({nil, "noaccess"}, zio[name](zio, "a.txt", "b")) end
  raises("io expected, got table", ba.mkio, {}, "x")
end)

check.job("read in parts, to and fro", function()
  local zio = assert(open {{"long", LONG}, {"lua", "local a = ... return x or 'x', a"}, {"bad", "return +"}})
  local file <close> = assert(zio:open "long")
  local parts = {}
  for data in function() return file:read(512) end do
    ok(#data == 512 or #data == #LONG % 512)
    parts[#parts + 1] = data
  end
  ok(table.concat(parts) == LONG)
  eq(file:read(1), nil)
  eq(file:read(0), nil)
  eq(file:seek(5), 5)
  eq(file:read(7), LONG:sub(6, 12))
  eq(file:seek(200000), 200000)
  results({LONG:sub(200001, 200003), LONG:sub(200004, 200004), LONG:sub(200005)}, file:read(3, 1, "*a"))
  eq(file:seek(#LONG), #LONG)
  eq(file:seek(#LONG + 1), nil)
  file:seek(0)
  eq(file:read(), LONG:sub(1, 8192))
  raises("count or", file.read, file, "l")
  raises("count or", file.read, file, -1)
  raises("number of bytes", file.seek, file, "x")
  results({nil, "noaccess"}, file:write "x")
  results({"y", 1}, assert(zio:loadfile("lua", {x = "y"}))(1))
  results({"x", nil}, zio:dofile "lua")
  eq((select(2, zio:loadfile "bad")):match "^bad:1:", "bad:1:")
  results({nil, "notfound"}, zio:loadfile "nothing")
  raises("notfound", zio.dofile, zio, "nothing")
end)

check.job("names that lead elsewhere", function()
  local zio = assert(open {{"../up", "x"}, {"/root", "x"}, {"a/../../b", "x"}, {"a\\b", "x"}, {"z\0z", "x"}, {"./c", "x"}, {"a//b", "x"}, {"", "x"},
                           {"good", "1"}, {"good", "2"}})
  eq(names(zio), "good")
  eq(read(zio, "good"), "1")
end)

check.job("replaced while it is open", function()
  local zio = assert(open {{"a.txt", "public"}, {"sub/.hide", "hidden"}})
  eq(read(zio, "a.txt"), "public")
  write(zipped {{"sub/.hide", "hidden!"}, {"a.txt", "public"}})
  results({nil, "ioerror"}, read(zio, "a.txt"))
  zio = assert(open {{".hide", "hidden"}, {"a.txt", "public", {offset = 0}}})
  results({nil, "ioerror"}, read(zio, "a.txt"))
end)

check.job("very many files", function()
  local entry = ("<c4I2I2I2I2I2I2I4I4I4I2I2I2I2I2I4I4"):pack("PK\1\2", 20, 20, 0, 0, 0x6000, 0x5976, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0)
  local list, count = {}, 65534
  for i = 1, count do
    list[i] = entry .. ("%03x/%04x"):format(i >> 8, i)
    if i % 1000 == 0 then ba.sleep(0) end
  end
  list = table.concat(list)
  local text = list .. ("<c4I2I2I2I2I4I4I2"):pack("PK\5\6", 0, 0, count, count, #list, 0, 0)
  local at, most = 0, 0
  local file = {seek = function(_, to) at = to end, close = function() end}
  function file:read(n)
    ba.sleep(0) -- as files do: what is made of one piece is one turn
    local data = text:sub(at + 1, at + n)
    at, most = at + #data, math.max(most, #data)
    return data ~= "" and data or nil
  end
  local zio = assert(require "cosock.zip".open({stat = function() return {type = "regular", size = #text, mtime = 0} end,
                                                open = function() return file end}, "x"))
  ok(most < 70000, "read in pieces")
  eq(zio:stat "0ff".isdir, true)
  eq(zio:stat "fff", nil)
end)

check.job("folders in folders without end", function()
  eq(ba.mkio(io_, assert(open {{("a/"):rep(1000) .. "f", "x"}}) and name) ~= nil, true)
  results({nil, "invalidparam"}, (function() local _, err = open {{("a/"):rep(30000) .. "f", "x"}} return _, err end)())
end)

check.job("what is damaged or not known", function()
  local zio = assert(open {{"closed", "x", {flags = 1}}, {"other", "x", {method = 12}}, {"short", LONG, {size = 10}}, {"long", "text", {size = 1000}},
                           {"cut", LONG, {packed = 100}}, {"nowhere", "x", {offset = 1 << 20}}, {"wrong", "x", {offset = 7}},
                           {"noise", "\255\255\255\255", {method = 0}}})
  results({nil, "noaccess"}, read(zio, "closed"))
  results({nil, "noimplementation"}, read(zio, "other"))
  for _, name in ipairs {"short", "long", "cut", "nowhere", "wrong"} do results({nil, "ioerror"}, read(zio, name)) end
  local file <close> = assert(zio:open "cut")
  repeat local data, err = file:read(100) until not data
  for _ = 1, 2 do results({nil, "ioerror"}, file:read(1)) end -- and nothing of what is behind
  results({nil, "ioerror"}, file:seek(0))
  local data = zipped {{"noise", "\255\255\255\255", {method = 0}}}
  write((data:gsub("\20\0\0\0\0\0\0\96", "\20\0\0\0\8\0\0\96")))
  results({nil, "ioerror"}, read(assert(ba.mkio(io_, name)), "noise"))
end)

check.job("what is no ZIP file", function()
  local good = zipped {{"a", "text"}}
  for what, text in pairs {empty = "", text = ("x"):rep(100000), cut = good:sub(1, -2), tail = good:sub(-22), list = (good:gsub("PK\1\2", "PKxx"))} do
    write(text)
    local zio, err = ba.mkio(io_, name)
    eq(zio, nil, what)
    eq(err, "invalidparam", what)
  end
  write(good:sub(1, -13) .. "\255\255" .. good:sub(-10))
  results({nil, "noimplementation"}, (function() local _, err = ba.mkio(io_, name) return _, err end)())
  eq(select(2, ba.mkio(io_, "nothing.zip")), "notfound")
  eq(select(2, ba.mkio(io_, name .. "/y")), "notfound")
  local zio = assert(open {})
  eq(names(zio), "")
end)

check.job("any damage at all", function()
  math.randomseed(20261122)
  local good = zipped {{"a", "text of a"}, {"dir/b", LONG:sub(1, 3000)}, {"c", "stored", {method = 0}}}
  for _ = 1, 300 do
    local bytes = {good:byte(1, -1)}
    for _ = 1, math.random(3) do bytes[math.random(#bytes)] = math.random(0, 255) end
    local text = {}
    for i, b in ipairs(bytes) do text[i] = string.char(b) end
    write(table.concat(text):sub(1, math.random(4) == 1 and math.random(#bytes) or -1))
    local zio = ba.mkio(io_, name)
    for name, isdir in (zio and zio:files("/", true) or function() end) do
      if not isdir then read(zio, name) end
    end
  end
end)
