-- require "http" and require "httpm": redirects, default options, forms, JSON, files.
local check = require "check"
local http = require "http"
local httpm = require "httpm"
local web = require "web"
local eq, ok, results, both = check.eq, check.ok, check.results, check.both
after_each(web.close)

local other -- the port of a second server

local function server(counts)
  return web.serve(function(sock, head, reader)
    local body = web.body(reader)
    local path = head.target:match "^[^?]*"
    local function answer(status, text, header) web.answer(sock, status, text, header, head.method == "HEAD") end
    local status, to = path:match "^/(30%d)(.*)$"
    if status then
      answer(tonumber(status), "elsewhere", {Location = to == "" and "/target?a=b&a=c&d=e%20f" or to == "/other" and web.url(other) or
                                             to == "/loop" and path or to == "/wss" and "wss://x/" or to == "/none" and {} or to})
    elseif path == "/json" then
      answer(200, '{"a":[1,null]}')
    elseif path == "/broken" then
      answer(200, '{"a":')
    elseif path == "/404" then
      answer(404, "nope")
    elseif path == "/cut" then
      sock:write "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"
      return false
    elseif path == "/file" then
      answer(200, "12345", {["Last-Modified"] = "Thu, 01 Jan 1970 00:01:00 GMT"})
    else
      local private = (head.header.authorization or "-") .. (head.header.cookie or "-")
      answer(200, ("%s %s %s [%s] %s"):format(head.method, head.target, private, body, head.header["content-type"] or ""))
    end
  end, nil, counts)
end

both("default options, and others over them", function()
  local port = server()
  local h <close> = http.create {url = web.url(port, "/x"), query = {z = 1}, header = {Cookie = "a=b"}}
  eq(h:request(), true)
  results({200, "GET /x?z=1 -a=b [] "}, h:status(), h:read "a")
  eq(h:request {method = "HEAD", query = {}}, true)
  results({200, ""}, h:status(), h:read "a")
  eq(h:header()["content-length"], "16")
  eq(h:request(), true)
  eq(h:read "a", "GET /x?z=1 -a=b [] ")
  local place, query = h:url()
  results({web.url(port, "/x"), "1"}, place, query.z)
  eq(h.raw:status(), 200)
  results({"127.0.0.1", port}, h:peername())
end)

both("redirects", function()
  local port = server()
  local h <close> = http.create()
  for _, code in ipairs {301, 302, 303, 307, 308} do
    eq(h:request {url = web.url(port, "/" .. code), query = {dropped = 1}}, true)
    results({200, "GET /target?a=b&a=c&d=e%20f -- [] "}, h:status(), h:read "a")
    local place, query = h:url()
    results({web.url(port, "/target"), "b c", "e f"}, place, table.concat(query.a, " "), query.d)
    eq(h:request {url = web.url(port, "/" .. code), method = "DELETE"}, true)
    eq(h:read "a":match "^%u+", code >= 307 and "DELETE" or "GET")
    eq(h:request {url = web.url(port, "/" .. code), method = "HEAD"}, true)
    results({200, ""}, h:status(), h:read "a")
  end
  eq(h:request {url = web.url(port, "/302/deeper/../x#y")}, true)
  eq(h:url(), web.url(port, "/x"))
  local loud = "HTTP" .. web.url(port, "/up"):sub(5)
  for _, url in ipairs {web.url(port, "/302" .. loud), "HTTP" .. web.url(port, "/302" .. loud:lower()):sub(5)} do
    eq(h:request {url = url}, true)
    results({200, "GET /up -- [] "}, h:status(), h:read "a")
  end
  eq(h:request {url = web.url(port, "/304/x")}, true)
  eq(h:status(), 304)
  eq(h:url(), web.url(port, "/304/x"))
end)

both("redirects that lead nowhere", function()
  local counts = {}
  local port = server(counts)
  local h <close> = http.create()
  results({nil, "redirect"}, h:request {url = web.url(port, "/302/loop")})
  eq(counts.requests, 11)
  results({nil, "redirect"}, h:status())
  results({nil, "redirect"}, h:url())
  results({nil, "invalidurl"}, h:request {url = web.url(port, "/302/wss")})
  results({nil, "incorrectuse"}, http.create():url())
end)

both("a redirect takes no secrets to another server", function()
  local port = server()
  other = server()
  local h <close> = http.create {header = {Authorization = "secret", cookie = "c", ["X-Kept"] = "1"}}
  eq(h:request {url = web.url(port, "/302")}, true)
  eq(h:read "a":match " (%S+) %[", "secretc")
  eq(h:request {url = web.url(port, "/302/other")}, true)
  eq(h:url(), web.url(other))
  eq(h:read "a":match " (%S+) %[", "--")
end)

both("a redirect of an empty body", function()
  local port = web.serve(function(sock, head, reader)
    web.body(reader)
    local n = tonumber(head.target:sub(2))
    if n < 3 then return web.answer(sock, n == 1 and 307 or 308, "", {Location = "/" .. n + 1}) end
    web.answer(sock, 200, ("%s %s %s"):format(head.method, head.target, head.length))
  end)
  local h <close> = http.create()
  for _, op in ipairs {{size = 0}, {header = {["Content-Length"] = 0}}} do
    op.url, op.method = web.url(port, "/1"), "POST"
    eq(h:request(op), true)
    results({200, "POST /3 0"}, h:status(), h:read "a")
  end
end)

both("a redirect of a request with a body is told", function()
  local port = server()
  local h <close> = http.create()
  eq(h:request {url = web.url(port, "/301"), method = "POST", size = 3}, true)
  eq(h:write "abc", true)
  results({nil, 301, web.url(port, "/target?a=b&a=c&d=e%20f")}, h:status())
  eq(h:read "a", "elsewhere")
  eq(h:request {url = web.url(port, "/x"), method = "PUT"}, true)
  eq(h:write "abc", true)
  eq(h:read "a", "PUT /x -- [abc] ")
end)

both("stat", function()
  local port = server()
  local h <close> = httpm.create()
  local st = h:stat(web.url(port, "/file"))
  results({5, 60}, st.size, st.mtime)
  st = h:stat(web.url(port, "/file"), {method = "GET", query = {x = 1}})
  results({5, 60}, st.size, st.mtime)
  results({nil, 404}, h:stat(web.url(port, "/404")))
  results({nil, "cannotconnect"}, h:stat(web.url(check.dead_port())))
end)

both("post", function()
  local port = server()
  local h <close> = httpm.create()
  results({200, "POST /p?q=1 -- [a=1&b=x%20y] application/x-www-form-urlencoded"},
          h:post(web.url(port, "/p"), {a = 1, b = "x y"}, {query = {q = 1}}))
  results({200, "POST / -- [] application/x-www-form-urlencoded"}, h:post(web.url(port), {}))
  results({404, "nope"}, h:post(web.url(port, "/404"), {a = 1}))
  results({nil, 302}, h:post(web.url(port, "/302"), {a = 1}))
  results({nil, 302, web.url(port, "/target?a=b&a=c&d=e%20f")}, h:status())
  results({nil, "cannotconnect"}, h:post(web.url(check.dead_port()), {}))
end)

both("json", function()
  local port = server()
  local h <close> = httpm.create()
  eq(h:json(web.url(port, "/json"), {}).a[1], 1)
  eq(h:json(web.url(port, "/json"), {}).a[2], nil)
  eq(h:json(web.url(port, "/json"), {}, {jnull = true}).a[2], ba.json.null)
  results({nil, "json", "parse"}, h:json(web.url(port, "/broken"), {}))
  results({nil, 404, "nope"}, h:json(web.url(port, "/404"), {}))
  results({nil, "invalidresponse"}, h:json(web.url(port, "/cut"), {}))
end)

both("files up and down", function()
  local port = server()
  local io = ba.openio "disk"
  local name = "http_client_easy"
  local function text(what)
    local f <close> = io:open(name, "w")
    return f:write(what)
  end
  local function content()
    local f = io:open(name)
    if not f then return nil end
    local all = f:read "a" or ""
    f:close()
    return all
  end
  local big = check.pattern(200001)
  ok(text(big))
  local h <close> = httpm:create()
  local seen
  local function note(size, done) seen = size .. " " .. done end
  eq(h:upload {io = io, name = name, url = web.url(port, "/u"), func = note}, true)
  eq(seen, "200001 200001")
  eq(h:read "a", "PUT /u -- [" .. big .. "] ")
  eq(h:upload({fp = io:open(name), url = web.url(port, "/u")}, {method = "POST"}), true)
  eq(h:read "a", "POST /u -- [" .. big .. "] ")
  eq(h:upload {fp = io:open(name), size = #big, url = web.url(port, "/u")}, true)
  results({nil, 404}, h:upload {io = io, name = name, url = web.url(port, "/404")})
  eq(h:upload {io = io, name = name, url = web.url(port, "/301")}, true)
  results({nil, 301}, h:status())
  results({nil, "notfound"}, h:upload {io = io, name = "none", url = web.url(port, "/u")})
  results({nil, "cannotconnect"}, h:upload {io = io, name = name, url = web.url(check.dead_port())})

  eq(h:download {io = io, name = name, url = web.url(port, "/d"), func = note}, true)
  results({"GET /d -- [] ", "13 13"}, content(), seen)
  eq(h:download {fp = io:open(name, "w"), url = web.url(port, "/302")}, true)
  eq(content(), "GET /target?a=b&a=c&d=e%20f -- [] ")
  results({nil, 404}, h:download {io = io, name = name, url = web.url(port, "/404")})
  eq(content(), "GET /target?a=b&a=c&d=e%20f -- [] ")
  results({nil, "notfound"}, h:download {io = io, name = "no/dir/x", url = web.url(port, "/d")})
  results({nil, "cannotconnect"}, h:download {io = io, name = name, url = web.url(check.dead_port())})
  results({nil, "invalidresponse"}, h:download {io = io, name = name, url = web.url(port, "/cut")})
  eq(content(), nil, "a part is no file")
end)

both("files that fail", function()
  local bodies = {}
  local port = web.serve(function(sock, head, reader)
    bodies[#bodies + 1] = web.body(reader) or "cut"
    if head.target == "/silent" then return false end
    web.answer(sock, 200, "hello")
  end)
  local h <close> = httpm.create()
  local function file(t)
    t.closed = 0
    function t:close()
      self.closed = self.closed + 1
      if self.last then return nil, self.last end
      return true
    end
    function t:write() return true end
    return t
  end
  local left = 1
  local torn = file {read = function()
    left = left - 1
    if left == 0 then return "a part" end
    return nil, "ioerror"
  end}
  results({nil, "ioerror"}, h:upload {fp = torn, url = web.url(port)})
  eq(torn.closed, 1)
  check.wait(function() return bodies[1] end, "the server to notice")
  eq(bodies[1], "cut", "a part must not look like the whole")

  local full = file {last = "nospace"}
  results({nil, "nospace"}, h:download {fp = full, url = web.url(port)})
  eq(full.closed, 1)
  local unused = file {}
  results({nil, "socketclosed"}, h:download({fp = unused, url = web.url(port, "/silent")}, {method = "POST"}))
  eq(unused.closed, 1)
end)
