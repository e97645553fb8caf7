-- scripts/stubs/*.lua against the API of the running daemon: every function has a stub, and every stub a function. Names are
-- compared, not types. A new function goes into the stub file of its table (a new file: add it to the list), and
-- into docs/lua-api.md.
local FILES = {"ba", "bytearray", "cert", "crypto", "date", "http", "io", "json", "mime", "pages", "random", "sock", "sockcompat", "socket", "test", "text", "thread", "timer",
               "tls", "trace", "udp", "websocket"}

-- Of which metatables the methods are, by the name of the type in the engine, where the stubs call it otherwise.
local CLASSES = {["io file"] = "ba.io.file", io = "ba.io"}

local root = (arg[0]:match("^(.*)/[^/]*$") or ".") .. "/../../"

local function api()
  local found = {}
  local function add(prefix, t)
    for name, value in pairs(t) do
      if type(value) == "function" then found[prefix .. name] = value end
      if prefix == "ba." and type(value) == "table" then add("ba." .. name .. ".", value) end
    end
  end
  add("ba.", ba)
  add("sockcompat.", sockcompat)
  add("mime.", mime)
  for _, name in ipairs {"trace", "tracep", "describe", "it", "before_each", "after_each", "skip"} do
    found[name] = type(_G[name]) == "function" or nil
  end
  for name, meta in pairs(debug.getregistry()) do
    if type(name) == "string" and type(meta) == "table" and name ~= "FILE*" and name ~= "_LOADED" then
      local methods = rawget(meta, "__index")
      if type(methods) == "table" then add((CLASSES[name] or name) .. ":", methods) end
    end
  end
  return found
end

local function stubs()
  local found = {}
  for _, file in ipairs(FILES) do
    local class, classes = nil, {}
    for line in io.lines(root .. "scripts/stubs/" .. file .. ".lua") do
      class = line:match "^%-%-%-@class ([%w_.]+)" or class
      local variable = line:match "^local (%w+) = {}"
      if variable then classes[variable] = class end
      local name = line:match "^function ([%w_.:]+)%("
      if name then
        local object, method = name:match "^(%w+):(%w+)$"
        found[object and classes[object] .. ":" .. method or name] = file
      end
    end
  end
  return found
end

-- A function that only says that it is not there needs no stub.
local function absent(f)
  local ok, err = pcall(f)
  return not ok and tostring(err):find("is not part of cosockd", 1, true)
end

local function missing(from, where)
  local list = {}
  for name, f in pairs(from) do
    if not where[name] and not (type(f) == "function" and absent(f)) then list[#list + 1] = name end
  end
  table.sort(list)
  return table.concat(list, " ")
end

it("each function has a stub", function()
  local without = missing(api(), stubs())
  assert(without == "", "no stub in scripts/stubs/ for: " .. without)
end)

it("each stub has a function", function()
  local without = missing(stubs(), api())
  assert(without == "", "stubs without a function: " .. without)
end)

it("each stub is Lua, and says what it is", function()
  for _, file in ipairs(FILES) do
    assert(loadfile(root .. "scripts/stubs/" .. file .. ".lua"))
    assert(io.lines(root .. "scripts/stubs/" .. file .. ".lua")() == "---@meta", file)
  end
end)

it("each function is documented", function()
  local text = assert(io.open(root .. "docs/lua-api.md"):read "a")
  local absent = {}
  for name in pairs(stubs()) do
    local last = name:match "[%w_]+$"
    if not text:find("[%.:`, ]" .. last .. "[%(`{]") then absent[#absent + 1] = name end
  end
  table.sort(absent)
  assert(#absent == 0, "not in docs/lua-api.md: " .. table.concat(absent, " "))
end)
