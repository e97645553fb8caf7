-- Parts of the page host that need no connection: compiled pages, paths, forms.
local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" -- tests/lua
package.path = here .. "/../../scripts/lib/?.lua;" .. package.path
local check = require "check"
local form = require "cosock.http.form"
local lsp = require "cosock.http.lsp"
local path = require "cosock.http.path"
local eq, ok, raises = check.eq, check.ok, check.raises

-- What a page writes.
local function output(text, env)
  local out = {}
  env = setmetatable(env or {}, {__index = _G})
  function env._emit(...)
    for _, value in ipairs {...} do out[#out + 1] = tostring(value) end
  end
  assert(lsp.compile(text, "page"))(env)
  return table.concat(out)
end

local function wrong(text)
  local run, err = lsp.compile(text, "page")
  eq(run, nil)
  return err
end

it("text, statements, values", function()
  for text, expected in pairs {
    [""] = "", ["plain"] = "plain", ["a\n\nb\n"] = "a\n\nb\n", ["<?lsp?>"] = "", ["<?lsp ?>x"] = "x",
    ["<?lsp=1?>"] = "1", ["<?lsp= 'a' .. 1 ?>b"] = "a1b", ["<?lsp for i = 1, 2 do ?>[<?lsp= i ?>]<?lsp end ?>."] = "[1][2].",
    ["]] ]=] \" ' \\ %"] = "]] ]=] \" ' \\ %", ["\0\r\n\255"] = "\0\r\n\255", ["<?php ?><? lsp ?>"] = "<?php ?><? lsp ?>",
    ["<?lsp local function f() ?>in f<?lsp end f() f() ?>"] = "in fin f",
  } do
    eq(output(text), expected, text)
  end
end)

it("comments and strings before ?>", function()
  for text, expected in pairs {
    ["<?lsp -- one ?>a"] = "a", ["<?lsp local x = 1 -- one\nx = 2 -- two ?><?lsp= x ?>"] = "2", ["<?lsp --[[ long\n]] ?>a"] = "a",
    ["<?lsp= 'a -- b' ?>c"] = "a -- bc", ["<?lsp= \"-- \\\" --\" -- c ?>d"] = "-- \" --d", ["<?lsp= [[-- ']] -- ' ?>e"] = "-- 'e",
    ["<?lsp= [==[-- ]] ]==] ?>f"] = "-- ]] f", ["<?lsp= 5 - -3 ?>"] = "8", ["<?lsp --[==[ ]] -- \n ]==] local y = 'z' ?><?lsp= y -- w ?>"] = "z",
  } do
    eq(output(text), expected, text)
  end
end)

it("return ends a page", function()
  eq(output "a<?lsp return ?>b", "a")
  eq(output "a<?lsp if true then return end ?>b", "a")
  eq(output "a<?lsp do return end ?>b", "a")
  eq(output "a<?lsp return; ?>b<?lsp error 'not here' ?>", "a")
  eq(output "a<?lsp local returned = 1 ?>b", "ab")
end)

it("lines are those of the page", function()
  local function line(text)
    local _, err = pcall(output, text)
    return tonumber(err:match "^page:(%d+):")
  end
  eq(line "<?lsp error 'x' ?>", 1)
  eq(line "\n\n<?lsp error 'x' ?>", 3)
  eq(line "a\n<?lsp -- c ?>\n<?lsp\n\nerror 'x' ?>", 5)
  eq(line "<?lsp --[[\n\n]] ?>\n<?lsp= nil .. 'x' ?>", 4)
  eq(line "<?lsp return\n\n?>\n<?lsp ?>", nil)
  eq(line "<?lsp if false then return\n\nend ?>\n<?lsp error 'x' ?>", 4)
  ok(wrong "a\nb\n<?lsp x = = 1 ?>":find "^page:3: ")
  ok(wrong "a\nb\n<?lsp x()":find "^page:3: <%?lsp without %?>")
  ok(wrong "<?lsp for i = 1, 2 do ?>":find "^page:1: ")
end)

it("an environment of its own for each run", function()
  local run = assert(lsp.compile("<?lsp n = (n or 0) + 1 ?><?lsp= n ?>", "page"))
  local out = {}
  local function new_env() return setmetatable({_emit = function(value) out[#out + 1] = value end}, {__index = _G}) end
  local env = new_env()
  run(env)
  run(env)
  run(new_env())
  eq(table.concat(out, " "), "1 2 1")
  eq(rawget(_G, "n"), nil)
end)

it("what a page is called with, as text for load too", function()
  local text = "<?lsp local a, b, c, d = pathname, io, page, app ?>[<?lsp= a .. b .. c .. d .. (x or '') ?>]\r\n\0"
  local out = {}
  local chunk = assert(load(assert(ba.parselsp(text))))
  chunk({_emit = function(value) out[#out + 1] = value end, x = "x"}, "path", "io", "page", "app")
  eq(table.concat(out), "[pathiopageappx]\r\n\0")
  eq(assert(ba.parselsp "a\n\n<?lsp\nx ?>"):gsub("[^\n]", ""), "\n\n\n")
  local code, err = ba.parselsp "a\n<?lsp x"
  eq(code, nil)
  eq(err, "2: <?lsp without ?>")
  raises("string expected", ba.parselsp)
end)

it("paths", function()
  for raw, clean in pairs {
    ["/"] = "/", ["/a"] = "/a", ["/a/"] = "/a/", ["/a/b.txt"] = "/a/b.txt", ["/a%20b"] = "/a b", ["//a//b"] = "/a/b", ["/./a/./b"] = "/a/b",
    ["/a/../b"] = "/b", ["/a/.."] = "/", ["/a/b/.."] = "/a/", ["/a/."] = "/a/", ["/%61/%2e%2e/b"] = "/b", ["/.a"] = "/.a", ["/%2ea"] = "/.a",
    ["/a..b"] = "/a..b", ["/..."] = "/...", ["/a/...."] = "/a/....", ["/a%2fb"] = "/a/b", ["/a+b"] = "/a+b",
  } do
    eq(path.clean(raw), clean, raw)
  end
  for _, raw in ipairs {"/..", "/a/../..", "/%2e%2e", "/..%2fa", "/a%00", "/%", "/%1", "/%gg", "/a\\b", "/%5c", "", "a", "*"} do
    eq(path.clean(raw), nil, raw)
  end
  for target, expected in pairs {["/a?b=c"] = {"/a", "b=c"}, ["/a?"] = {"/a", ""}, ["/a"] = {"/a"}, ["http://h/x?y"] = {"/x", "y"},
                                 ["http://h"] = {"/"}, ["http://h?q"] = {"/", "q"}, ["/a?b?c"] = {"/a", "b?c"}} do
    local p, q = path.split(target)
    eq(p, expected[1], target)
    eq(q, expected[2], target)
  end
  eq(path.encode "/a b<\">'&c/\195\164", "/a%20b%3C%22%3E%27%26c/%C3%A4")
end)

it("forms", function()
  local list = form.parse({}, "a=1&b=%26+x&&c&=d&e==&a=2")
  local texts = {}
  for i, field in ipairs(list) do texts[i] = field[1] .. ":" .. field[2] end
  eq(table.concat(texts, "|"), "a:1|b:& x|c:|:d|e:=|a:2")
  eq(#form.parse({}, ("x&"):rep(5000)), 1000)
end)
