-- What the HTTP client stands on: URLs, answers to challenges, addresses for SOCKS5.
local check = require "check"
local credentials = require "cosock.credentials"
local outbound = require "cosock.outbound"
local proxy = require "cosock.proxy"
local url = require "cosock.url"
local eq, ok, results = check.eq, check.ok, check.results

local function parsed(text)
  local to, err = url.parse(text)
  if not to then return err end
  return ("%s|%s|%d|%s|%s|%s"):format(to.scheme, to.host, to.port, to.target, to.user or "", to.password or "")
end

it("URLs are taken apart", function()
  for text, expected in pairs {
    ["http://example.com"] = "http|example.com|80|/||",
    ["HTTPS://Example.com/a/b?c=d#e"] = "https|Example.com|443|/a/b?c=d||",
    ["ws://a-b.c_d:8080?x"] = "ws|a-b.c_d|8080|/?x||",
    ["wss://[::1]/chat"] = "wss|::1|443|/chat||",
    ["http://[2001:db8::1]:99/"] = "http|2001:db8::1|99|/||",
    ["http://joe:p%40ss@h/x"] = "http|h|80|/x|joe|p@ss",
    ["http://joe@h:/x"] = "http|h|80|/x|joe|",
    ["http://h/a b/\xc3\xa9|\"<>^`{}\\%20%"] = "http|h|80|/a%20b/%C3%A9%7C%22%3C%3E%5E%60%7B%7D%5C%20%||",
    ["mqtt://h:1883"] = "mqtt|h|1883|/||",
    ["mqtt://h"] = "invalidurl", ["/a"] = "invalidurl", ["example.com"] = "invalidurl", [""] = "invalidurl",
    ["http://"] = "invalidurl", ["http:///a"] = "invalidurl", ["http://h:0/"] = "invalidurl",
    ["http://h:65536/"] = "invalidurl", ["http://h:80x/"] = "invalidurl", ["http://a b/"] = "invalidurl",
    ["http://h/\r\nX: y"] = "invalidurl", ["http://h\0/"] = "invalidurl", ["http://[::1/"] = "invalidurl", ["http://h%00/"] = "invalidurl",
  } do eq(parsed(text), expected, text) end
end)

it("the authority has the port only when it must", function()
  for text, expected in pairs {["http://h"] = "h", ["http://h:80"] = "h", ["https://h:80"] = "h:80", ["http://[::1]"] = "[::1]",
                               ["ws://[::1]:81"] = "[::1]:81"} do
    eq(url.authority(url.parse(text)), expected)
  end
end)

it("references are resolved (RFC 3986, 5.4)", function()
  for reference, expected in pairs {
    ["g:h"] = "g:h", ["g"] = "http://a/b/c/g", ["./g"] = "http://a/b/c/g", ["g/"] = "http://a/b/c/g/", ["/g"] = "http://a/g",
    ["//g"] = "http://g", ["?y"] = "http://a/b/c/d;p?y", ["g?y"] = "http://a/b/c/g?y", ["#s"] = "http://a/b/c/d;p?q",
    ["g#s"] = "http://a/b/c/g", ["g?y#s"] = "http://a/b/c/g?y", [";x"] = "http://a/b/c/;x", [""] = "http://a/b/c/d;p?q",
    ["."] = "http://a/b/c/", ["./"] = "http://a/b/c/", [".."] = "http://a/b/", ["../"] = "http://a/b/", ["../g"] = "http://a/b/g",
    ["../.."] = "http://a/", ["../../g"] = "http://a/g", ["../../../g"] = "http://a/g", ["/./g"] = "http://a/g",
    ["/../g"] = "http://a/g", ["g."] = "http://a/b/c/g.", ["..g"] = "http://a/b/c/..g", ["./../g"] = "http://a/b/g",
    ["g/./h"] = "http://a/b/c/g/h", ["g/../h"] = "http://a/b/c/h", ["g;x=1/../y"] = "http://a/b/c/y", ["g?y/../x"] = "http://a/b/c/g?y/../x",
  } do eq(url.resolve("http://a/b/c/d;p?q", reference), expected, reference) end
  eq(url.resolve("http://a", "g"), "http://a/g")
  eq(url.resolve("http://a?x", "?y"), "http://a/?y")
end)

it("queries of tables, and back", function()
  eq(url.query {b = 2, a = "x y&z", list = {"1", "\xc3\xa9"}, [1] = true}, "1=true&a=x%20y%26z&b=2&list=1&list=%C3%A9")
  eq(url.query {}, "")
  eq(url.with_query("http://h/a", {x = 1}), "http://h/a?x=1")
  eq(url.with_query("http://h/a?y#f", {x = 1}), "http://h/a?y&x=1#f")
  eq(url.with_query("http://h/a", nil), "http://h/a")
  local place, values = url.split "http://h/a?x=1&y=a+b%26&x=2&x=3&flag#f"
  eq(place, "http://h/a")
  results({"a b&", "1 2 3", ""}, values.y, table.concat(values.x, " "), values.flag)
  results({"http://h/a", nil}, url.split "http://h/a#f", nil)
end)

local function said(text)
  local out = {}
  for _, c in ipairs(credentials.challenges(text)) do
    local names = {}
    for name, value in pairs(c) do if name ~= "scheme" then names[#names + 1] = name .. "=" .. value end end
    table.sort(names)
    out[#out + 1] = c.scheme .. "(" .. table.concat(names, ";") .. ")"
  end
  return table.concat(out, " ")
end

it("challenges are read", function()
  eq(said 'Basic realm="a, b"', "basic(realm=a, b)")
  eq(said 'Digest realm="x", qop="auth,auth-int", nonce=abc, stale=TRUE,  Basic Realm="y\\"\\\\"', 'digest(nonce=abc;qop=auth,auth-int;realm=x;stale=TRUE) basic(realm=y"\\)')
  eq(said "Negotiate, Bearer", "negotiate() bearer()")
  for _, odd in ipairs {"", ",,", "Negotiate abc==", 'Basic realm="open', 'Basic realm=', '="x"', "\xff\xfe", 'Basic "x" y=z', "a b c d"} do said(odd) end
end)

it("long names without a value are looked at once", function() -- else the CPU budget ends this
  for _ = 1, 8 do said("Basic " .. ("a"):rep(8000) .. "=,") end
end)

local function ask(c, challenge) return c:challenged({{"WWW-Authenticate", challenge}}, "www-authenticate") end

it("Basic (RFC 7617, 2)", function()
  local c = credentials.new("Aladdin", "open sesame")
  eq(c:answer("GET", "/"), nil)
  ok(ask(c, 'Basic realm="x"'))
  eq(c:answer("GET", "/"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
  eq(ask(c, 'Basic realm="x"'), false, "a refused answer is not given again")
  eq(c:answer("GET", "/"), nil)
end)

-- The response for what stands in the answer itself, computed in another way.
local function verify(answer, user, realm, password, method, hash)
  local nonce, nc, cnonce = answer:match 'nonce="([^"]*)"', answer:match "nc=(%x+)", answer:match 'cnonce="([^"]*)"'
  local uri, response = answer:match 'uri="([^"]*)"', answer:match 'response="(%x+)"'
  local function h(text) return ba.crypto.hash(hash)(text)(true, "hex") end
  local a1, a2 = h(user .. ":" .. realm .. ":" .. password), h(method .. ":" .. uri)
  return response == h(nc and a1 .. ":" .. nonce .. ":" .. nc .. ":" .. cnonce .. ":auth:" .. a2 or a1 .. ":" .. nonce .. ":" .. a2)
end

it("Digest (RFC 7616, 3.9.1), and as RFC 2069 had it", function()
  local c = credentials.new("Mufasa", "Circle of Life")
  local fields = {{"X", "y"}, {"WWW-Authenticate", 'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5, nonce="7ypf", opaque="FQhe"'},
                  {"www-authenticate", 'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="7ypf", opaque="FQhe"'},
                  {"WWW-Authenticate", 'Basic realm="b"'}}
  ok(c:challenged(fields, "www-authenticate"))
  local one, two = c:answer("GET", "/dir/index.html"), c:answer("GET", "/2")
  ok(one:find('opaque="FQhe"', 1, true) and one:find("nc=00000001", 1, true) and two:find("nc=00000002", 1, true), one)
  ok(one:find("algorithm=SHA%-256"), one)
  for _, answer in ipairs {one, two} do ok(verify(answer, "Mufasa", "http-auth@example.org", "Circle of Life", "GET", "sha256"), answer) end

  c = credentials.new("Mufasa", "CircleOfLife") -- the example of RFC 2069 with its corrected response
  ok(ask(c, 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'))
  local old = c:answer("GET", "/dir/index.html")
  ok(old:find('response="1949323746fe6a43ef61f9606e7febea"', 1, true), old)
  eq(ask(c, 'Digest realm="x", nonce="n2", stale=true'), true, "only the nonce was too old")
  c:answer("GET", "/")
  eq(ask(c, 'Digest realm="x", nonce="n3"'), false)
  eq(ask(c, 'Digest realm="x", nonce="n4"'), true, "the next request begins anew")
  c:answer("GET", "/")
  c:answer("GET", "/")
  eq(ask(c, 'Digest realm="x", nonce="n5"'), true, "it has worked before")
end)

it("challenges that cannot be answered", function()
  for _, text in ipairs {"Negotiate", 'Digest realm="x"', 'Digest realm="x", nonce="n", algorithm=SHA-512-256',
                         'Digest realm="x", nonce="n", qop="auth-int"', ""} do
    eq(ask(credentials.new("a", "b"), text), false, text)
  end
end)

it("quotes in names cannot leave the answer", function()
  local c = credentials.new('a"\\b', "p")
  ok(ask(c, 'Digest realm="r\\"s", nonce="n"'))
  local answer = c:answer("GET", '/"')
  ok(answer:find('username="a\\"\\\\b", realm="r\\"s"', 1, true), answer)
end)

it("addresses for SOCKS5", function()
  eq(proxy.socks_address("127.0.0.1", 80), "\1\127\0\0\1\0\80")
  eq(proxy.socks_address("example.com", 258), "\3\11example.com\1\2")
  eq(proxy.socks_address("1.2.3.400", 1), "\3\0091.2.3.400\0\1")
  eq(proxy.socks_address("::1", 1), "\4" .. ("\0"):rep(15) .. "\1\0\1")
  eq(proxy.socks_address("2001:db8::ff:1", 1), "\4\x20\x01\x0d\xb8" .. ("\0"):rep(8) .. "\0\xff\0\1\0\1")
  eq(proxy.socks_address("1:2:3:4:5:6:7:8", 1), "\4\0\1\0\2\0\3\0\4\0\5\0\6\0\7\0\8\0\1")
  eq(proxy.socks_address("::ffff:1.2.3.4", 1), "\4" .. ("\0"):rep(10) .. "\xff\xff\1\2\3\4\0\1")
end)

it("no text confuses them", function()
  math.randomseed(1)
  local pieces = {"http://", "ws://", "a", "%", "@", ":", "/", "..", "?", "#", "=", "&", "[", "]", "\0", "\xff", '"', "\\", ",", " ", "Digest ", "Basic ",
                  "realm", "nonce=", 'qop="auth"', "stale=", "80", "::1"}
  for _ = 1, 5000 do
    local parts = {}
    for i = 1, math.random(12) do parts[i] = pieces[math.random(#pieces)] end
    local text = table.concat(parts)
    local to, err = url.parse(text)
    ok(to and to.target:find "^/[%g]*$" or err == "invalidurl", text)
    if to then
      ok(#url.resolve(text, "../" .. text) > 0, text)
      ok(ba.http.request("GET", to.target, {Host = url.authority(to)}), text)
    end
    url.split(text)
    url.with_query(text, {a = text})
    local c = credentials.new(text, text)
    if ask(c, text) then ok(ba.http.request("GET", "/", {Authorization = c:answer("GET", "/")}) or text:find "%c", text) end
  end
end)

it("destinations of a proxy are compared as addresses, however they are written", function()
  local listener = ba.socket.bind(0, {intf = "::1"})
  if not listener then return end -- no IPv6 here
  local _, port = listener:sockname()
  local out = outbound.new({destinations = {("[0:0::1]:%d"):format(port)}}, {})
  ok(out:connect("0000:0000:0000:0000:0000:0000:0000:0001", port)):close()
  results({nil, "denied"}, out:connect("::2", port))
  results({nil, "cannotresolve"}, out:connect("1::2::3", port))
  local good, err = pcall(outbound.new, {destinations = {"[::1::]:80"}}, {})
  ok(not good and err:find '"%[::1::%]:80"', err)
  listener:close()
end)
