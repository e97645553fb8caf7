-- base64, URLs, media types, addresses, version (ba-api C.5); the codecs themselves are tested in C
local check = require "check"
local eq, ok, raises, results = check.eq, check.ok, check.raises, check.results

local function all_bytes()
  local t = {}
  for i = 0, 255 do t[#t + 1] = string.char(i) end
  return table.concat(t)
end

check.job("base64", function()
  eq(ba.b64encode "", "")
  eq(ba.b64encode "light wo", "bGlnaHQgd28=")
  eq(ba.b64urlencode "light wo", "bGlnaHQgd28", "no padding in URLs")
  eq(ba.b64encode "\xff\xef\xfe", "/+/+")
  eq(ba.b64urlencode "\xff\xef\xfe", "_-_-")
  eq(ba.b64encode(12), "MTI=")
  eq(ba.b64encode(ba.bytearray.create "f"), "Zg==")
  local text = all_bytes():rep(300)
  eq(ba.b64decode(ba.b64encode(text)), text)
  eq(ba.b64decode(ba.b64urlencode(text)), text)
  eq(ba.b64decode "bGln\r\n aHQ=\n", "light")
  eq(ba.b64decode "", "")
  results({nil, "invalidparam"}, ba.b64decode "a")
  results({nil, "invalidparam"}, ba.b64decode "Zg==!")
  for _, f in ipairs {ba.b64encode, ba.b64urlencode, ba.b64decode, ba.urlencode, ba.urldecode} do
    raises("string expected", f)
    raises("string expected", f, {})
  end
end)

check.job("URLs", function()
  eq(ba.urlencode "a b&c=d/é~", "a%20b%26c%3Dd%2F%C3%A9~")
  eq(ba.urldecode "a%20b%26c+d", "a b&c+d")
  eq(ba.urldecode "100%", "100%")
  eq(ba.urldecode(ba.urlencode(all_bytes())), all_bytes())
end)

check.job("media types", function()
  results({"text/html", true}, ba.mime "html")
  results({"image/png", true}, ba.mime "PNG")
  results({"application/octet-stream", false}, ba.mime "")
  results({"application/octet-stream", false}, ba.mime "nosuch")
  raises("string expected", ba.mime)
end)

check.job("compression", function()
  eq(ba.deflate "", "\3\0")
  eq(ba.deflate {}, "\3\0")
  eq(ba.deflate {"a", "", 1}, ba.deflate "a1")
  eq(ba.deflate("a", true):sub(1, 1), "\x78")
  ok(#ba.deflate(("text "):rep(10000)) < 500)
  raises("no string at 2 of the list", ba.deflate, {"a", {}})
  raises("string too long", ba.deflate, ("x"):rep((16 << 20) + 1))
  raises("string expected", ba.deflate)
  for _, zlib in ipairs {false, true} do
    local text = ("text of some kind "):rep(5000)
    local small, parts = ba.deflate(text, zlib), {}
    local f = ba.inflate(zlib)
    for at = 1, #small, 7 do
      local piece, done = f(small:sub(at, at + 6))
      parts[#parts + 1] = piece
      eq(done, at + 7 > #small)
    end
    ok(table.concat(parts) == text)
    results({"", true}, f "more")
  end
  results({"text", true}, ba.inflate()(ba.deflate "text" .. "behind"))
  results({"", false}, ba.inflate() "")
  results({nil, "invalidparam"}, ba.inflate() "\255\255\255")
  results({nil, "invalidparam"}, ba.inflate(true)(ba.deflate "text"))
  local block = "\0\255\255\0\0" .. ("x"):rep(65535) -- one that is not the last
  eq(#ba.inflate()(block:rep(256)), 256 * 65535)
  local f = ba.inflate()
  results({nil, "toomuchdata"}, f(block:rep(257)))
  results({nil, "invalidparam"}, f "")
  raises("string expected", ba.inflate())
end)

check.job("addresses", function()
  eq(ba.cmpaddr("127.0.0.1", "127.0.0.1"), true)
  eq(ba.cmpaddr("::1", "0:0:0:0:0:0:0:1"), true)
  eq(ba.cmpaddr("68.4.198.129", "::ffff:68.4.198.129"), true)
  eq(ba.cmpaddr("68.4.198.129", "::ffff:68.4.198.128"), false)
  eq(ba.cmpaddr("::1", "127.0.0.1"), false)
  eq(ba.cmpaddr("::1", "::1", 80, true), true, "more arguments are ignored")
  eq(ba.cmpaddr("localhost", "localhost"), false, "a name is no address")
  eq(ba.cmpaddr(nil, "::1"), false, "peername gave nil")
  eq(ba.cmpaddr("unix:/x", "unix:/x"), false)
  raises("value expected", ba.cmpaddr)
end)

check.both("addresses of a connection", function()
  local sock, peer = check.pair()
  eq(ba.cmpaddr(sock:peername(), sock:sockname()), true)
  sock:close()
  peer:close()
end)

check.job("version", function()
  local level, lua, built, name = ba.version()
  ok(level >= 5521, "what the MySQL client wants")
  eq(lua, 504)
  local date = built:gsub("^(%w+)%s*(%w+)", "%2 %1") -- as published scripts do
  ok(ba.parsedate("Mon, " .. date))
  ok(name:find "^cosockd %d+%.%d+%.%d+$")
end)
