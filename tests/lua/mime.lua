-- The global mime: the functions under LuaSocket's MIME filters (ba-api E 15).
local check = require "check"
local eq, ok, raises, results = check.eq, check.ok, check.raises, check.results

-- All that a low-level function makes of a text that comes in pieces of n bytes.
local function run(f, text, n, start, extra)
  local out, context, piece = {}, start, nil
  for i = 1, #text, n do
    piece, context = f(context, text:sub(i, i + n - 1), extra)
    out[#out + 1] = piece
  end
  piece, context = f(context, nil, extra)
  out[#out + 1] = piece
  local after = f(context, nil, extra)
  return table.concat(out), after
end

local function every_cut(f, text, expected, start, extra)
  for n = 1, #text + 1 do eq((run(f, text, n, start, extra)), expected, "in pieces of " .. n) end
end

it("base64", function()
  for text, expected in pairs {[""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=", foobar = "Zm9vYmFy"} do
    every_cut(mime.b64, text, expected, "")
    every_cut(mime.unb64, expected, text, "")
  end
  every_cut(mime.unb64, "\r\nZm 9v\tYm\0Fy!\r\n", "foobar", "")
  results({"Zm9v", "b"}, mime.b64("fo", "ob"))
  results({"foo", "Ym"}, mime.unb64("Zm", "9vYm"))
  eq((mime.b64 "diego:password"), "ZGllZ286cGFzc3dvcmQ=")
  eq((mime.unb64 "ZGllZ286cGFzc3dvcmQ="), "diego:password")
  results({nil, nil}, mime.b64(nil, "x"))
  results({nil, nil}, mime.b64 "")
  results({nil, nil}, mime.unb64 "Zm") -- not whole
  eq((mime.unb64("", "====Zm9v")), "foo")
  local all = check.pattern(1000)
  eq((mime.unb64((mime.b64(all)))), all)
end)

it("quoted-printable", function()
  every_cut(mime.qp, "ma\xe7\xe3 = 1\tx\r\nend", "ma=E7=E3 =3D 1\tx\r\nend", "")
  every_cut(mime.qp, "space \r\ntab\t\r\nlast ", "space=20\r\ntab=09\r\nlast=20", "")
  every_cut(mime.qp, "a\rb\nc\r", "a=0Db=0Ac=0D", "")
  every_cut(mime.qp, "a\r\nb", "a|b", "", "|")
  every_cut(mime.unqp, "ma=E7=e3 =3D 1\r\nsoft=\r\n end=\nx=ZZ=4", "ma\xe7\xe3 = 1\r\nsoft endx=ZZ=4", "")
  results({nil, nil}, mime.qp(nil))
  results({"a", " "}, mime.qp("", "a "))
  local all = {}
  for i = 0, 255 do all[#all + 1] = string.char(i) end
  all = table.concat(all)
  eq((mime.unqp((mime.qp(all)))), all)
end)

it("lines are broken", function()
  every_cut(mime.wrp, "abcdefgh\nij", "abcd\r\nefgh\r\nij\r\n", 4, 4)
  every_cut(mime.wrp, "abcd\r\n", "abcd\r\n", 4, 4)
  every_cut(mime.qpwrp, "abcdefgh=20ij\r\nx", "abcd=\r\nefgh=\r\n=20i=\r\nj\r\nx=\r\n", 5, 5)
  results({"ab", 74}, mime.wrp(76, "ab"))
  results({nil, 76}, mime.wrp(76, nil))
  results({"\r\n", 76}, mime.wrp(70, nil))
  results({"=\r\n", 76}, mime.qpwrp(70))
  for line in run(mime.qpwrp, (mime.qp(check.pattern(2000))), 7, 76):gmatch "[^\r\n]+" do
    ok(#line <= 76 and not line:find "=.?$" or line:find "=$" and not line:find "=.=$", line)
  end
  raises("too short", mime.qpwrp, 1, "x", 3)
  raises("too short", mime.wrp, 1, "x", 0)
end)

it("line ends become one kind", function()
  every_cut(mime.eol, "a\nb\rc\r\nd\n\re\n\nf\r\rg\r\n\r\n", "a|b|c|d|e||f||g||", 0, "|")
  results({"x\r\n", 10}, mime.eol(0, "x\n"))
  results({"", 0}, mime.eol(10, "\r"))
  results({nil, 0}, mime.eol(10, nil))
end)

it("dots are doubled", function()
  every_cut(mime.dot, ".a\r\n.b\r\n..\r\nc.\n.d\r.e", "..a\r\n..b\r\n...\r\nc.\n.d\r.e", 2)
  results({"x\r\n", 2}, mime.dot(0, "x\r\n"))
  results({nil, 2}, mime.dot(0, nil))
end)

it("wrong arguments are raised", function()
  raises("string expected", mime.b64, {})
  raises("string expected", mime.qp, "", true)
  raises("string expected", mime.qp, "", "x", {})
  raises("number expected", mime.wrp, "x", "y")
  raises("number expected", mime.dot)
end)
