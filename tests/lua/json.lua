-- ba.json (ba-api C.5); what is JSON and what is not is tested in C
local check = require "check"
local eq, ok, raises, results = check.eq, check.ok, check.raises, check.results
local json = ba.json
local encode, decode = json.encode, json.decode

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b and math.type(a) == math.type(b) end
  for k, v in pairs(a) do if not same(v, b[k]) then return false end end
  for k in pairs(b) do if a[k] == nil then return false end end
  return true
end

check.job("encode", function()
  eq(encode {}, "{}")
  eq(encode {1, 2, 3}, "[1,2,3]")
  eq(encode {a = 1}, '{"a":1}')
  eq(encode {{}, {{}}}, "[{},[{}]]")
  eq(encode {true, false, json.null, print, coroutine.create(print), ba.timer(print)}, "[true,false,null,null,null,null]")
  eq(encode {1, nil, 3}, "[1,null,3]")
  eq(encode {[1] = "a", [5] = "b"}:find '^{"[15]":"[ab]","[15]":"[ab]"}$', 1, "a hole that is too wide makes an object")
  eq(encode {[1] = 1, x = 2}:find '^{"[1x]":[12],"[1x]":[12]}$', 1)
  eq(encode {[2.5] = 1}, '{"2.5":1}')
  eq(encode {[0] = 1}, '{"0":1}')
  eq(encode({1}, {a = 2}), '[1]{"a":2}', "several tables")
  eq(encode({1}, 2000), "[1]", "the size is a hint")
  eq(encode "a", '"a"')
  eq(encode(5), "5")
  eq(encode(json.null), "null")
  raises("value expected", encode)
  raises("table key", encode, {[true] = 1})
  raises("table key", encode, {[{}] = 1})
  local t = {}
  t.t = t
  raises("nested deeper", encode, t)
  local deep = {}
  for _ = 1, 127 do deep = {deep} end
  eq(encode(deep), ("["):rep(127) .. "{}" .. ("]"):rep(127))
  raises("nested deeper", encode, {deep})
end)

check.job("strings", function()
  eq(json.encodestr 'a"b\\c/\b\f\n\r\t\0\31\127é', '"a\\"b\\\\c/\\b\\f\\n\\r\\t\\u0000\\u001f\127é"')
  eq(json.encodestr "", '""')
  eq(json.encodestr(12), '"12"')
  raises("string expected", json.encodestr, {})
  local all = {}
  for i = 0, 255 do all[#all + 1] = string.char(i) end
  all = table.concat(all):rep(100)
  eq(decode(encode(all)), all)
  eq(decode(encode {[all:sub(2, 256)] = 1}, nil, 16, 300)[all:sub(2, 256)], 1)
end)

check.job("numbers come back as they were", function()
  for _, n in ipairs {0, 1, -1, math.maxinteger, math.mininteger, 1 << 53, (1 << 53) + 1, 0.1, 1 / 3, -1.5e-300, 1e300,
                      2.0 ^ 53, 1e15, 123456789012345680.0, 5e-324, math.pi, 1.0, -0.0, 100.0} do
    local text = encode {n}
    local back = decode(text)[1]
    eq(back, n, text)
    eq(math.type(back), math.type(n), text)
  end
  eq(encode {0.1, 1.0, 1e100, 3}, "[0.1,1.0,1e+100,3]")
  eq(encode {0 / 0, 1 / 0, -1 / 0}, "[null,null,null]")
  eq(decode "[9223372036854775808]"[1], 9223372036854775808.0)
  eq(decode "[-9223372036854775809]"[1], -9223372036854775809.0)
  eq(decode "[100000000000000000000000000]"[1], 1e26)
end)

check.job("decode", function()
  ok(same(decode '{"a":[1,2.5,"x",true,false,{}],"b":{"c":"é"}}', {a = {1, 2.5, "x", true, false, {}}, b = {c = "é"}}))
  eq(decode '{"a":null}'.a, json.null)
  eq(type(json.null), "userdata")
  eq(decode('{"a":null}', true).a, json.null)
  eq(decode('{"a":null}', false).a, nil)
  eq(#decode('[1,null,3]', false), 3)
  local a, b, c, d = decode '{}{"x":1} [2] 7'
  eq(next(a), nil)
  eq(b.x, 1)
  eq(c[1], 2)
  eq(d, 7)
  eq(decode '"text"', "text")
  eq(decode "12", 12)
  eq(decode(ba.bytearray.create "[1]")[1], 1)
  raises("string expected", decode)
end)

check.job("decode: errors", function()
  local function fails(what, why, ...)
    local v, err, detail = decode(...)
    eq(v, nil)
    eq(err, what)
    ok(detail:find(why, 1, true), detail)
  end
  fails("parse", "unexpected end of the text at byte 1", "")
  fails("parse", "unexpected end of the text at byte 4", "[1,")
  fails("parse", "unexpected character at byte 3", "[1;]")
  fails("parse", "unexpected", "{}x")
  fails("parse", "unexpected", "nonsense")
  fails("parse", "control character", '["a\nb"]')
  fails("data", "nested too deeply at byte 17", ("["):rep(17))
  eq(decode(("["):rep(16) .. ("]"):rep(16))[1] ~= nil, true)
  fails("data", "nested too deeply", "[[]]", true, 1)
  eq(type(decode("[]", true, 1)), "table")
  fails("data", "too long a name", ('{"%s":1}'):format(("x"):rep(256)))
  eq(decode(('{"%s":1}'):format(("x"):rep(255)))[("x"):rep(255)], 1)
  fails("data", "too long a name", '{"abc":1}', nil, 16, 2)
  fails("data", "zero byte", '{"a\\u0000b":1}')
  fails("data", "too many values", ("1 "):rep(10001))
  raises("nesting must be", decode, "[]", true, 0)
  raises("nesting must be", decode, "[]", true, 1001)
  eq(type(decode(("["):rep(1000) .. ("]"):rep(1000), true, 1000)), "table")
end)

check.job("parser", function()
  local p = json.parser()
  results({true}, p:parse "")
  eq(select("#", p:parse '{"a":'), 1)
  local good, obj, more = p:parse '1}[2][3'
  eq(good, true)
  eq(obj.a, 1)
  eq(more[1], 2)
  eq(p:parse("]", true), true)
  local list
  good, list = p:parse('[4]{"b":5} 6 "x"', true)
  eq(good, true)
  eq(#list, 4)
  eq(list[1][1], 4)
  eq(list[2].b, 5)
  eq(list[3], 6)
  eq(list[4], "x")
  eq(select("#", p:parse("  ", true)), 1, "nothing complete: no array")
  eq(select("#", p:parse "7"), 1, "a number may go on")
  results({true, 78}, p:parse "8\n")
  eq(select(2, p:parse "[null]")[1], json.null)
  eq(select(2, json.parser(false):parse "[null,1]")[2], 1)
end)

check.job("parser: byte by byte", function()
  local text = encode {a = {1, 2, {b = "x\ny"}}, c = 1.5, d = false}
  local p, got = json.parser(), {}
  for c in (text .. text):gmatch "." do
    local good, obj = p:parse(c)
    eq(good, true)
    got[#got + 1] = obj
  end
  eq(#got, 2)
  ok(same(got[1], decode(text)) and same(got[2], got[1]))
end)

check.job("parser: errors", function()
  local p = json.parser()
  eq(p:parse '{"a":1', true)
  local v, err, why = p:parse ';'
  eq(v, nil)
  eq(err, "parse")
  eq(why, "unexpected character at byte 7")
  results({nil, "parse"}, p:parse "{}")
  eq((json.parser(true, 2):parse "[[1]]"), true)
  results({nil, "data"}, json.parser(true, 2):parse "[[[1]]]")
  results({nil, "data"}, json.parser(true, 16, 1):parse '{"ab":1}')
  raises("expected", p.parse, {}, "x")
  raises("string expected", p.parse, json.parser())
end)

check.job("random tables come back", function()
  local function value(depth)
    local kind = ba.rnd(depth > 4 and 4 or 6)
    if kind == 0 then return ba.rnds(8) end
    if kind == 1 then return ba.rnds(8) / 7 end
    if kind == 2 then return ba.rndbs(ba.rnd(1, 20)) end
    if kind == 3 then return ba.rnd(1) == 1 end
    if kind == 4 then return json.null end
    local t = {}
    for i = 1, ba.rnd(1, 5) do t[kind == 5 and i or "k" .. i] = value(depth + 1) end
    return t
  end
  for _ = 1, 2000 do
    ba.sleep(0) -- a sanitizer build is slow: each has a CPU budget of its own
    local t = {value(0)}
    local text = encode(t)
    ok(same(decode(text), t), text)
    local p, at, got = json.parser(), 1, nil
    while at <= #text do
      local n = ba.rnd(1, 30)
      local good, obj = p:parse(text:sub(at, at + n - 1))
      ok(good)
      got = got or obj
      at = at + n
    end
    ok(same(got, t), text)
  end
end)

check.job("garbage harms nobody", function()
  for _ = 1, 3000 do
    local text = encode {ba.rnd(), {x = "y", z = {1, 2}}, 1.5}
    local at = ba.rnd(1, #text)
    text = text:sub(1, at - 1) .. ba.rndbs(1) .. text:sub(at + ba.rnd(0, 2))
    local v, err = decode(text)
    ok(v ~= nil or err == "parse" or err == "data", err)
  end
end)

check.cosocket("a stream of messages", function()
  local got
  local listener, port = check.listen(function(s)
    local p, list = json.parser(), {}
    for data in s.read, s do
      local good, objects = p:parse(data, true)
      ok(good)
      for _, o in ipairs(objects or {}) do list[#list + 1] = o.i end
    end
    got = list
  end)
  local sock = ok(check.in_job(ba.socket.connect, "127.0.0.1", port))
  for i = 1, 500 do ok(sock:write(encode {i = i, text = ("x"):rep(i)}, true)) end
  sock:close()
  check.wait(function() return got end, "the end of the stream")
  for i = 1, 500 do eq(got[i], i) end
  eq(#got, 500)
  listener:close()
end)
