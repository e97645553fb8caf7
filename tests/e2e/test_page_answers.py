"""Answers that are not written to the client at once: deferred ones, which outlive their page, and those that a filter takes."""

import http.client
import subprocess
import zlib

import harness
import web

PRELOAD = """
waiting = {}
function later(f) ba.thread.run(f) end

-- What a filter of the directory does with its pages.
local place = ba.create.resrdr("filtered", ba.mkio(io, ".pages"))
place:lspfilter(app)
place:setfunc(function(_ENV, path)
  local how = request:data "how"
  if how == "function" then
    local parts = {}
    local taken = response:setresponse(function(data) parts[#parts + 1] = data end)
    local found = place:service(request, path)
    assert(taken:finalize() and taken:finalize() == nil)
    if not found then return false end
    response:setheader("X-Parts", #parts)
    response:write((table.concat(parts):upper()))
  elseif how == "fetched" then
    local taken = response:setresponse(true)
    assert(place:service(request, path))
    local data = taken:finalize()
    response:setheader("Content-Encoding", "deflate")
    response:write(data)
  elseif how == "closed" then
    local taken <close> = response:setresponse()
    return place:service(request, path)
  elseif how == "forgotten" then
    response:setresponse(request:data "rfc1950" ~= nil)
    return place:service(request, path)
  elseif how == "dropped" then
    local taken = response:setresponse()
    place:service(request, path)
    assert(taken:abort())
    print "something else"
  else
    local taken = response:setresponse(how == "zlib")
    if not place:service(request, path) then return false end
    response:setcontenttype "text/html"
    taken:finalize(true)
    response:write "too late"
  end
  return true
end)
dir:insert(place)
"""

PAGES = {
    ".preload": PRELOAD,
    "index.html": "here",
    # In a job, or in order by another page.
    "deferred.lsp": """<?lsp
      response:setheader("X-Before", "set before")
      response:write "before "
      local answer = response:deferred()
      assert(response:deferred() == nil and ba.socket.req2sock(request) == nil)
      local name = request:data "name"
      assert(answer:valid() and response:write "lost" == nil)
      app.later(function()
        ba.sleep(1)
        assert(answer:setheader("X-Name", name) and answer:setstatus(201))
        assert(answer:write("answer ", 1, " ", name))
        if request_is_over then trace "never" end
        assert(answer:close() and not answer:valid())
        trace("twice", answer:close())
        trace("write", answer:write "x")
      end)
    ?> text of the page""",
    "hold.lsp": "<?lsp app.waiting[request:data 'name'] = response:deferred() ?>",
    "held.lsp": "<?lsp print(app.waiting[request:data 'name'] ~= nil) ?>",
    "slow.lsp": """<?lsp
      local d = response:deferred()
      app.later(function()
        while not app.io:stat ".go" do ba.sleep(5) end
        d:write "from before"
        d:close()
      end)
      trace "slow page ends"
    ?>""",
    "release.lsp": """<?lsp
      local answer = app.waiting[request:data "name"]
      for _ = 1, tonumber(request:data "times" or 1) do answer:write(request:data "text") end
      print(answer:close())
    ?>""",
    "at-once.lsp": "<?lsp local d = response:deferred() d:setstatus(302) d:setheader('Location', '/x') d:setcontentlength(0) d:close() ?>",
    "length.lsp": "<?lsp local d = response:deferred() d:setcontentlength(6) d:send 'abc' app.later(function() d:send 'def' d:close() end) ?>",
    "flushed.lsp": "<?lsp response:write 'one ' response:flush() local d = response:deferred() d:write 'two' d:close() ?>",
    "forgotten.lsp": "<?lsp response:deferred():write 'nobody closes it' ?>",
    "raises.lsp": "<?lsp local d = response:deferred() d:write 'answered' app.later(function() d:close() end) error 'on purpose' ?>",
    "raises-forgotten.lsp": "<?lsp local d = response:deferred() d:setheader('X-Half', 'y') d:write 'half' error 'on purpose' ?>",
    "unsendable.lsp": """<?lsp
      local d = response:deferred()
      d.fields_out["no name"] = "x"
      trace("unsendable", pcall(d.close, d))
    ?>""",
    "short.lsp": "<?lsp local r = request:data 'later' and response:deferred() or response r:setcontentlength(10) r:write 'abc' if r ~= response then r:close() end ?>",
    "keepless.lsp": "<?lsp local d = response:deferred() response:clearkeepalive() d:write 'x' d:close() ?>",
    "emit.lsp": """<?lsp
      local response = response:deferred()
      _emit = function(...) response:write(...) end
    ?>text <?lsp= 1 + 1 ?> and
<?lsp app.later(function() ?>the rest<?lsp response:close() end) ?>""",
    "small.lsp": """<?lsp
      print(tostring(request), request:clientcert(), request:setnodelay(true))
      print(response:encodeurl "a/../path/with spaces", response:encodeurl "/a/./b/../<c>/?x=<y> z", response:encodeurl "../../up")
      print(response:encoderedirecturl "other.lsp?a=b")
      print(response:encoderedirecturl("/up", true))
      print(response:encoderedirecturl "https://elsewhere.example/")
      local before = response:bytecount()
      response:write "12345"
      print(response:bytecount() - before, #response:getdata() == response:writesize())
      response:flush()
      print(response:getdata(), response:bytecount() > before, response:setresponse())
    ?>""",
    "old.lsp": "<?lsp response:downgrade() response:write(('x'):rep(100000)) ?>",
    "ask.lsp": """<?lsp
      if request:data "basic" then response:setbasic 'the "place"' else response:setdigest "place" end
      print "who?"
    ?>""",
    "bad-filter.lsp": "<?lsp print(pcall(response.setresponse, response, 'x')) local r = response:setresponse() print(response:setresponse()) r:abort() print 'out' ?>",
    "end.lsp": "<?lsp local n = 0 response:setresponse(function(data) n = n + 1 if data == nil then trace('told', n) end end) print 'x' response:abort() ?>",
    ".pages/page.lsp": "a page <?lsp for i = 1, 5000 do ?>line <?lsp= i ?>\n<?lsp end ?>",
    ".pages/small.lsp": "small <?lsp= request:method() ?>",
    ".pages/json.lsp": "<?lsp response:json {a = 1} ?>",
    ".pages/none.lsp": "<?lsp response:setstatus(204) ?>",
    ".pages/error.lsp": "<?lsp print 'half a page' error 'on purpose' ?>",
    ".pages/vary.lsp": "<?lsp response:setheader('vary', request:data 'vary') response:setheader('etag', 'W/\"1\"') ?>text",
    ".pages/file.txt": "a file",
}
LINES = "a page " + "".join(f"line {i}\n" for i in range(1, 5001))


class Answers(web.Client):
    extra = ""

    def setUp(self):
        super().setUp()
        self.write_app(PAGES)
        self.write("www/.pages/big.bin", "x" * 300000)
        self.port = harness.free_port()
        self.daemon = self.service(f'service "www" {{ app = "www", listen = "127.0.0.1:{self.port}", {self.extra} }}\n', [self.port])

    def talk(self, *requests):
        """Everything that is answered to them, all sent at once; the last closes."""
        with self.connect(self.port) as s:
            head = "".join(f"{request} HTTP/1.1\r\nHost: x\r\n\r\n" for request in requests[:-1])
            s.sendall(f"{head}{requests[-1]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return harness.read_all(s).decode()


class DeferredTest(Answers):
    def wait_held(self, name):
        harness.until(lambda: self.text(f"/held.lsp?name={name}") == "true\n", what="the page that holds its answer")

    def test_after_the_page(self):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * harness.PATIENCE)
        for name in ("one", "two"):
            c.request("GET", f"/deferred.lsp?name={name}")
            r = c.getresponse()
            self.assertEqual((r.status, r.headers["X-Before"], r.headers["X-Name"], r.read().decode()),
                             (201, "set before", name, f"before answer 1 {name}"))
        c.request("POST", "/deferred.lsp", "name=posted", {"Content-Type": "application/x-www-form-urlencoded"})
        self.assertEqual(c.getresponse().read(), b"before answer 1 posted", "the request still answers")
        c.request("POST", "/deferred.lsp?name=unread", b"x" * 100000)
        self.assertEqual(c.getresponse().read(), b"before answer 1 unread", "a body that nobody has read")
        for path, expected in (("/at-once.lsp", (302, b"")), ("/length.lsp", (200, b"abcdef")), ("/flushed.lsp", (200, b"one two")),
                               ("/forgotten.lsp", (200, b"nobody closes it")), ("/emit.lsp", (200, b"text 2 and\nthe rest")),
                               ("/raises.lsp", (200, b"answered")), ("/", (200, b"here"))):
            c.request("GET", path)
            r = c.getresponse()
            self.assertEqual((r.status, r.read()), expected, path)
        c.close()
        self.daemon.wait_log("twice\tnil\tclosed", count=4)
        self.daemon.wait_log("write\tnil\tiscommitted", count=4)
        self.daemon.expect("on purpose")

    def test_a_page_that_fails(self):
        status, headers, body = self.get("/raises-forgotten.lsp")
        self.assertEqual((status, headers["X-Half"], b"half" in body), (500, None, False))
        self.daemon.expect("on purpose")

    def test_an_answer_that_cannot_be_sent(self):
        with self.connect(self.port) as s:
            s.sendall(b"GET /unsendable.lsp HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(harness.read_all(s), b"", "the connection ends")
        self.daemon.wait_log("unsendable\tfalse")

    def test_shorter_than_announced(self):
        """What comes next would be read as the rest of it: nothing does."""
        for path in ("/short.lsp", "/short.lsp?later=1"):
            got = self.talk(f"GET {path}", "GET /")
            head, body = got.split("\r\n\r\n", 1)
            self.assertEqual((got.count("HTTP/1.1 200"), body), (1, "abc"), path)
            self.assertIn("Connection: close", head, path)
            got = self.talk(f"HEAD {path}", "GET /")
            self.assertEqual((got.count("HTTP/1.1 200"), got.count("Connection: close")), (2, 1), "HEAD has no body")
        self.assertEqual(self.talk("GET /keepless.lsp", "GET /").count("HTTP/1.1 200"), 1)

    def test_in_their_order(self):
        with self.connect(self.port) as s:
            s.sendall(b"GET /hold.lsp?name=a HTTP/1.1\r\nHost: x\r\n\r\nHEAD /hold.lsp?name=b HTTP/1.1\r\nHost: x\r\n\r\n"
                      b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            for name, text in (("a", "first"), ("b", "second")):
                self.wait_held(name)
                self.assertEqual(self.text(f"/release.lsp?name={name}&text={text}"), "true\n")
            got = harness.read_all(s).decode()
        self.assertLess(got.index("first"), got.index("here"))
        self.assertEqual((got.count("HTTP/1.1 200"), got.count("second")), (3, 0))
        got = self.talk("GET /deferred.lsp?name=a", "GET /deferred.lsp?name=b", "GET /")
        self.assertRegex(got, "(?s)before answer 1 a.*before answer 1 b.*here")

    def test_a_client_that_has_gone(self):
        for n in range(3):
            s = self.connect(self.port)
            s.sendall(f"GET /hold.lsp?name={n} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            self.wait_held(n)
            harness.reset(s)
        for n in range(3):
            self.assertEqual(self.text(f"/release.lsp?name={n}&text={'x' * 4000}&times=100"), "true\n")
        self.assertEqual(self.text("/"), "here")
        harness.until(lambda: harness.open_connections(self.port) == 0, what="no connection left")

    def test_a_reload(self):
        with self.connect(self.port) as s:
            s.sendall(b"GET /slow.lsp HTTP/1.1\r\nHost: x\r\n\r\n")
            self.daemon.wait_log("slow page ends")
            self.reload()
            self.assertEqual(self.text("/"), "here")
            self.write("www/.go", "")
            self.assertTrue(harness.read_all(s).endswith(b"from before"), "and the connection ends, which newer scripts have not")


class IdleTest(Answers):
    extra = 'head_timeout = "1h", idle_timeout = "100ms"'

    def test_after_a_deferred_answer(self):
        with self.connect(self.port) as s:
            s.sendall(b"GET /length.lsp HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(harness.read_all(s).endswith(b"abcdef"), "and the connection ends after idle_timeout")


class FilterTest(Answers):
    def test_compressed(self):
        for how, wbits in (("raw", -15), ("zlib", 15), ("closed", -15), ("forgotten", -15), ("forgotten&rfc1950=1", 15)):
            status, headers, body = self.get(f"/filtered/page.lsp?how={how}")
            self.assertEqual((status, headers["Content-Encoding"], headers["Vary"], headers["Content-Length"]),
                             (200, "deflate", "Accept-Encoding", str(len(body))), how)
            self.assertLess(len(body), len(LINES) / 3)
            self.assertEqual(zlib.decompress(body, wbits).decode(), LINES, how)
        _, headers, body = self.get("/filtered/page.lsp?how=fetched")
        self.assertEqual((headers["Content-Encoding"], zlib.decompress(body).decode()), ("deflate", LINES))
        for path, text in (("small.lsp", b"small GET"), ("json.lsp", b'{"a":1}'), ("file.txt", b"a file")):
            _, headers, body = self.get(f"/filtered/{path}?how=raw")
            self.assertEqual((headers["Content-Encoding"], zlib.decompress(body, -15)), ("deflate", text))
        status, headers, body = self.get("/filtered/small.lsp?how=raw", method="HEAD")
        self.assertEqual((status, headers["Content-Encoding"], body), (200, "deflate", b""))

    def test_fields_of_what_is_compressed(self):
        _, headers, _ = self.get("/filtered/file.txt?how=raw")
        self.assertEqual((headers["ETag"][:3], headers["Accept-Ranges"], headers["Vary"]), ('W/"', None, "Accept-Encoding"))
        self.assertEqual(self.get("/filtered/file.txt?how=raw", headers={"If-None-Match": headers["ETag"]})[0], 304)
        for before, after in (("Cookie", "Cookie, Accept-Encoding"), ("accept-encoding,x", "accept-encoding,x"), ("*", "*")):
            _, headers, _ = self.get(f"/filtered/vary.lsp?how=raw&vary={before}")
            self.assertEqual((headers["Vary"], headers["ETag"], headers["Content-Encoding"]), (after, 'W/"1"', "deflate"))
        status, headers, body = self.get("/filtered/file.txt?how=raw", headers={"Range": "bytes=2-3"})
        self.assertEqual((status, headers["Content-Encoding"], headers["Content-Range"], body), (206, None, "bytes 2-3/6", b"fi"))

    def test_nothing_to_compress(self):
        status, headers, body = self.get("/filtered/none.lsp?how=raw")
        self.assertEqual((status, headers["Content-Encoding"], body), (204, None, b""))
        _, headers, body = self.get("/filtered/big.bin?how=raw")
        self.assertEqual((headers["Content-Encoding"], len(body)), (None, 300000))
        self.assertEqual(self.get("/filtered/nowhere?how=raw")[0], 404)
        self.assertEqual(self.text("/filtered/page.lsp?how=dropped"), "something else\n")
        for how in ("raw", "function", "closed", "forgotten"):
            status, headers, body = self.get(f"/filtered/error.lsp?how={how}")
            self.assertEqual((status, headers["Content-Encoding"], b"half" in body), (500, None, False), how)
        self.daemon.expect("on purpose")

    def test_a_function(self):
        status, headers, body = self.get("/filtered/page.lsp?how=function")
        self.assertEqual((status, body.decode()), (200, LINES.upper()))
        self.assertGreater(int(headers["X-Parts"]), 2)
        self.assertEqual(self.get("/filtered/nowhere?how=function")[0], 404)
        self.get("/end.lsp")
        self.daemon.wait_log("told\t2")
        self.assertEqual(self.text("/bad-filter.lsp"), "out\n")


class RestTest(Answers):
    def test_small_ones(self):
        got = self.text("/small.lsp?q=1&r=a+b").split("\n")
        at = f"http://127.0.0.1:{self.port}"
        self.assertEqual(got[:8], [f"{at}/small.lsp\tfalse\ttrue", "path/with%20spaces\t/a/%3Cc%3E/?x=<y> z\tup", f"{at}/other.lsp?a=b",
                                   f"{at}/up?q=1&r=a%20b", "https://elsewhere.example/", "123455\ttrue", "nil\ttrue\tnil\tiscommitted", ""])

    def test_an_old_answer(self):
        got = self.talk("GET /old.lsp", "GET /")
        head, body = got.split("\r\n\r\n", 1)
        self.assertIn("Connection: close", head)
        self.assertNotIn("chunked", head)
        self.assertEqual(body, "x" * 100000)

    def test_asking_for_a_password(self):
        status, headers, body = self.get("/ask.lsp?basic=1")
        self.assertEqual((status, headers["WWW-Authenticate"], body), (401, 'Basic realm="the \\"place\\"", charset="UTF-8"', b"who?\n"))
        status, headers, _ = self.get("/ask.lsp")
        self.assertEqual(status, 401)
        self.assertRegex(headers["WWW-Authenticate"], 'Digest realm="place", qop="auth", algorithm=MD5, nonce="')


class HostsTest(Answers):
    extra = 'hosts = { "www.Example.com", "[::1]" }'

    def test_names_of_the_service(self):
        for host, status in (("www.example.com", 200), (f"WWW.EXAMPLE.COM:{9}", 200), ("[::1]:80", 200), ("example.com", 421),
                             (f"127.0.0.1:{self.port}", 421), ("rebound.example", 421)):
            with self.connect(self.port) as s:
                s.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                self.assertTrue(harness.read_all(s).startswith(f"HTTP/1.1 {status} ".encode()), host)
        for wrong in ('"http://x"', '"x:80"', "1"):
            path = self.config(f'service "www" {{ app = "www", listen = ":1", hosts = {wrong} }}\n', "wrong.lua")
            run = subprocess.run([harness.COSOCKD, "-t", "-c", path], capture_output=True, text=True, check=False, timeout=60)
            self.assertIn("is no name", run.stderr + run.stdout)
            self.assertEqual(run.returncode, 78)


if __name__ == "__main__":
    harness.main()
