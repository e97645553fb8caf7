"""What an application is made of besides pages: directories, users with rights, forms with files, TLS beside plain HTTP,
compressed WebSockets. Barracuda's documents say how each behaves."""

import http.client
import json
import os
import random
import zlib

import harness
import pki
import web
import ws

PRELOAD = """
assert(require "shared" == "beside the configuration" and require "of_several" == "in its lib")

-- /rest/...: a directory that is nothing but a function; below it one more, with a name of its own.
local rest = ba.create.dir "rest"
rest:setfunc(function(_ENV, path)
  if path == "later" then return false end
  response:setcontenttype "text/plain"
  print(request:method(), path, request:uri(), rest:baseuri(), app.name)
end)
assert(dir:insert(rest, true) and rest:baseuri() == "/rest/" and rest:name() == "rest")
assert(select(2, dir:insert(rest)) == "alreadyinserted")
name = "the application"
local inner = ba.create.dir "later"
inner:setfunc(function(_ENV, path) print("inner", path, inner:baseuri()) end)
rest:insert(inner)

-- In front of the folder /family: who may see what.
local passwords = {mom = "m", kid = "k"}
local users = ba.create.authuser(function(username, password, env)
  assert(env.request)
  return passwords[username]
end)
local family = ba.create.dir "family"
family:setauth(ba.create.authenticator(users, {type = "basic"}), ba.create.authorizer(function(user, method, path, session)
  return user == "mom" or (method == "GET" and path ~= "mom.txt")
end))
family:p403 "/.refused.lsp"
dir:insertprolog(family, true)

-- A folder of its own as a directory, with pages and fields.
local other = ba.create.resrdr("other", 5, ba.mkio(io, ".other"))
other:lspfilter {name = "another table"}
local wrong = {pcall(other.header, other, {["X Y"] = "1"})}
assert(not wrong[1] and wrong[2]:find "header: ", wrong[2])
assert(not pcall(other.header, other, {X = "1\\r\\nY: 2"}) and not pcall(other.header, other, {["Content-Length"] = "x"}))
local fields = {["X-Frame-Options"] = "DENY"}
other:header(fields)
fields["X Y"] = "1"
other:maxage(60)
dir:insert(other)

-- A directory for everything, asked first: counts.
local counter = ba.create.dir(10)
counter:setfunc(function(_ENV) app.seen = (app.seen or 0) + 1 return false end)
assert(counter:insert())

-- What it has itself, seen from its function.
local filter = ba.create.resrdr("filtered", ba.mkio(io, ".other"))
filter:setfunc(function(_ENV, path)
  response:setheader("X-Filter", path)
  if path == "hidden" then return filter:service(request, ".secret", true) end
  return filter:service(request, path)
end)
dir:insert(filter)

-- Has two of a field in all of its answers, to which one adds.
local several = ba.create.dir "several"
several:header {["X-List"] = {"a", "b"}}
several:setfunc(function(_ENV, path)
  if path == "more" then assert(response:setheader("X-List", {"c", "d"}, true) and response:setheader("X-List", "e", true)) end
  if path == "unsendable" then response.fields_out["no name"] = "x" end
end)
dir:insert(several)

-- Its function raises the first time.
local twice, calls = ba.create.dir "twice", 0
twice:setfunc(function()
  calls = calls + 1
  error("call " .. calls)
end)
local around = ba.create.dir "around"
around:setfunc(function(_ENV)
  for _ = 1, 2 do print((select(2, pcall(twice.service, twice, request, ""))):match "call %d") end
end)
dir:insert(around)

gone = ba.create.dir "gone"
gone:setfunc(function(_ENV) print "still here" end)
dir:insert(gone)

local secure = ba.create.dir "secure"
secure:redirect2tls()
secure:setfunc(function(_ENV, path) print("secure", path) end)
dir:insert(secure)

-- Three with a login form; the first and the last know the same users.
local joes = ba.create.authuser(function(username, password) return username == "joe" and password == "pw" end)
local anns = ba.create.authuser(function(username, password) return username == "ann" and password == "pw" end)
for name, users in pairs {members = joes, staff = anns, lounge = joes} do
  local guarded = ba.create.dir(name)
  guarded:setauth(ba.create.authenticator(users, {type = "form"}))
  guarded:setfunc(function(_ENV) print(name, request:user()) end)
  dir:insert(guarded)
end
"""

PAGES = {
    "index.lsp": "<?lsp= app.seen ?>",
    "family/mom.txt": "for mom",
    "family/all.txt": "for all",
    ".refused.lsp": "not for <?lsp= (request:user()) ?>",
    ".other/page.lsp": "<?lsp print(app.name, pathname, io == dir:io(), page ~= nil) response:include 'part.txt' ?>",
    ".other/part.txt": "part",
    ".other/index.html": "the index",
    "raising.lsp": "<?lsp error 'on purpose' ?>",
    "outer.lsp": """<?lsp
      local mine = page
      local ok, err = pcall(response.include, response, "raising.lsp")
      print(ok, err:match "on purpose", pathname, page == mine, response:isinclude())
    ?>""",
    ".other/.secret": "secret",
    "unlink.lsp": "<?lsp print(app.gone:unlink(), app.gone:unlink()) ?>",
    "allow.lsp": "<?lsp request:allow {'GET', 'PUT'} print 'allowed' ?>",
    "since.lsp": "<?lsp request:checktime(1700000000) print 'new' ?>",
    "end.lsp": "<?lsp if request:data 'json' then response:json({a = 1}) end response:sendredirect('/x', true) app.never = 1 ?>",
    "stay.lsp": "<?lsp response:json({a = 1}, true) app.stayed = (app.stayed or 0) + 1 ?>",
    "where.lsp": "<?lsp print(app.never, app.stayed, response:isforward(), response:getstatus(), response:containsheader 'x') ?>",
    "login.lsp": "<?lsp request:login 'page' print(request:user()) ?>",
    "logout.lsp": "<?lsp request:login 'page' request:logout() print(request:user(), request:session()) ?>",
    "lost.lsp": "<?lsp response:forward 'nowhere.lsp' ?>",
    "upload.lsp": """<?lsp
      local log, size, max, sum = {}, 0, 0, ba.crypto.hash "sha256"
      local function note(...) log[#log + 1] = table.concat({...}, "|") end
      local stop = tonumber(request:data "stop")
      local ok, err = request:multipart({
        formdata = function(name, value) note("field", name, #value < 100 and value or #value) end,
        beginfile = function(name, filename, type, encoding) note("file", name, filename, tostring(type), tostring(encoding)) end,
        filedata = function(data)
          size, max = size + #data, math.max(max, #data)
          sum(data)
          if stop and size > stop then return false end
        end,
        endmp = function() note "end" end,
        error = function(text) note("error", text) end,
      }, tonumber(request:data "size"))
      response:json {log = log, ok = ok or false, err = err, size = size, max = max, sum = sum(true, "hex")}
    ?>""",
    "raise.lsp": """<?lsp
      print(pcall(request.multipart, request, {formdata = function() error(nil) end}))
    ?>""",
    "parts.lsp": """<?lsp
      local text = ("--XyZ\\r\\nContent-Disposition: form-data; name=x\\r\\n\\r\\n1\\r\\n"):rep(998) .. "--XyZ--\\r\\n"
      local fields, left = 0, text
      local function next()
        local data = left
        left = nil
        return data
      end
      collectgarbage "stop"
      local before = collectgarbage "count"
      local ok = require "cosock.http.multipart".read(next, "multipart/form-data; boundary=XyZ", {formdata = function() fields = fields + 1 end})
      local used = collectgarbage "count" - before
      collectgarbage "restart"
      print(ok, fields, used < 8192 or used)
    ?>""",
    "ws.lsp": """<?lsp
      local s, err = ba.socket.req2sock(request, nil, {messages = true, maxsize = 1 << 20, deflate = {takeover = true}})
      if not s then print(err) return end
      s:event(function(s) for data, text in function() return s:read() end do s:write(data, text) end end, "s")
    ?>""",
}


class Tree(web.Client):
    def setUp(self):
        super().setUp()
        for name, text in {".preload": PRELOAD, **PAGES}.items():
            os.makedirs(os.path.dirname(f"{self.directory}/www/{name}"), exist_ok=True)
            self.write(f"www/{name}", text)
        self.write("shared.lua", "return 'beside the configuration'")
        os.mkdir(f"{self.directory}/lib")
        self.write("lib/of_several.lua", "return 'in its lib'")
        self.port, self.tls = harness.free_port(), harness.free_port()
        cert, key = pki.Pki(self.directory).issue("pages.example")
        self.daemon = self.service(
            f'service "www" {{ app = "www", listen = "127.0.0.1:{self.port}", listen_tls = "127.0.0.1:{self.tls}",\n'
            f'  tls = {{ cert = "{cert}", key = "{key}" }} }}\n', [self.port, self.tls])


class DirectoryTest(Tree):
    def test_functions(self):
        self.assertEqual(self.text("/rest/a/b"), "GET\ta/b\t/rest/a/b\t/rest/\tthe application\n")
        self.assertEqual(self.text("/rest", method="PUT", body=b"x"), "PUT\t\t/rest\t/rest/\tthe application\n")
        self.assertEqual(self.text("/rest/later/x"), "GET\tlater/x\t/rest/later/x\t/rest/\tthe application\n")
        self.assertEqual(self.text("/rest/later"), "inner\t\t/rest/later/\n")
        self.assertEqual(self.get("/resting")[0], 404)
        self.assertEqual(self.get("/")[2], b"6", "the directory in front has seen every request")

    def test_users_with_rights(self):
        self.assertEqual(self.get("/family/all.txt")[0], 401)
        self.assertEqual(self.text("/family/all.txt", user="kid:k"), "for all")
        self.assertEqual(self.get("/family/mom.txt", user="kid:k")[::2], (403, b"not for kid"))
        self.assertEqual(self.get("/family/all.txt", user="kid:k", method="POST", body=b"")[::2], (403, b"not for kid"))
        self.assertEqual(self.text("/family/mom.txt", user="mom:m"), "for mom")
        self.assertEqual(self.get("/family/", user="mom:m")[0], 404)

    def test_a_login_is_for_those_users(self):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        status, headers, _ = self.get("/members", method="POST", body=b"ba_username=joe&ba_password=pw", headers=form)
        self.assertEqual(status, 303)
        joe = {"Cookie": headers["Set-Cookie"].split(";")[0]}
        for place in ("members", "lounge"):
            self.assertEqual(self.text(f"/{place}", headers=joe), f"{place}\tjoe\tnil\tform\n")
        self.assertIn("ba_password", self.text("/staff", headers=joe), "others are asked there")
        _, headers, _ = self.get("/login.lsp")
        page = {"Cookie": headers["Set-Cookie"].split(";")[0]}
        for place in ("members", "staff"):
            self.assertEqual(self.text(f"/{place}", headers=page), f"{place}\tpage\tnil\tform\n")
        self.assertEqual(self.text("/logout.lsp"), "false\tnil\n")

    def test_folders_of_their_own(self):
        status, headers, body = self.get("/other/page.lsp")
        self.assertEqual((status, body), (200, b"another table\t/page.lsp\ttrue\ttrue\npart"))
        self.assertEqual((headers["X-Frame-Options"], headers["Cache-Control"]), ("DENY", None))
        status, headers, body = self.get("/other/part.txt")
        self.assertEqual((headers["X-Frame-Options"], headers["Cache-Control"], body), ("DENY", "max-age=60", b"part"))
        self.assertEqual(self.get("/other/.secret")[0], 404)
        status, headers, body = self.get("/other?a=b")
        self.assertEqual((status, headers["Location"]), (301, f"http://127.0.0.1:{self.port}/other/?a=b"), "else its links lead elsewhere")
        self.assertEqual(self.text("/other/"), "the index")
        self.assertEqual(self.get("/filtered")[0], 301)
        self.assertEqual(self.text("/filtered/"), "the index")
        status, headers, body = self.get("/filtered/part.txt")
        self.assertEqual((status, headers["X-Filter"], body), (200, "part.txt", b"part"))
        self.assertEqual(self.get("/filtered/nothing")[0], 404)
        self.assertEqual(self.get("/filtered/page.lsp")[0], 404, "pages only with lspfilter")
        self.assertEqual(self.get("/filtered/hidden")[2], b"secret")
        self.assertEqual(self.text("/gone/x"), "still here\n")
        self.assertEqual(self.text("/unlink.lsp"), "true\tnil\tincorrectuse\n")
        self.assertEqual(self.get("/gone/x")[0], 404)

    def test_fields_that_come_several_times(self):
        for path, values in (("", "ab"), ("/more", "abcde"), ("/more", "abcde"), ("", "ab")):
            self.assertEqual(self.get(f"/several{path}")[1].get_all("X-List"), list(values), path)

    def test_an_answer_that_cannot_be_sent(self):
        with self.connect(self.port) as s:
            s.sendall(b"GET /several/unsendable HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(harness.read_all(s), b"", "the connection ends")
        self.daemon.expect("page failed: GET /several/unsendable .*header field 'no name'")

    def test_after_an_error_that_was_caught(self):
        self.assertEqual(self.text("/outer.lsp"), "false\ton purpose\t/outer.lsp\ttrue\tfalse\t0\n")
        self.assertEqual(self.text("/around"), "call 1\ncall 2\n")

    def test_methods_of_requests(self):
        self.assertEqual(self.text("/allow.lsp", method="PUT", body=b""), "allowed\n")
        status, headers, _ = self.get("/allow.lsp", method="POST", body=b"")
        self.assertEqual((status, headers["Allow"]), (405, "GET, PUT, HEAD, OPTIONS"))
        self.assertEqual(self.get("/allow.lsp", method="OPTIONS")[0], 204)
        date = "Tue, 14 Nov 2023 22:13:20 GMT"
        self.assertEqual(self.get("/since.lsp", headers={"If-Modified-Since": date})[0], 304)
        status, headers, body = self.get("/since.lsp", headers={"If-Modified-Since": date.replace("20 GMT", "19 GMT")})
        self.assertEqual((status, headers["Last-Modified"], body), (200, date, b"new\n"))
        self.assertEqual((self.get("/end.lsp?json=1")[2], self.get("/end.lsp")[0]), (b'{"a":1}', 301))
        self.assertEqual(self.get("/stay.lsp")[2], b'{"a":1}')
        self.assertEqual(self.text("/where.lsp"), "nil\t1\tfalse\t200\tfalse\n")
        self.daemon.expect("forward nowhere.lsp: pagenotfound")
        self.assertEqual(self.get("/lost.lsp")[0], 500)


class SeveralTest(harness.Case):
    def test_applications_that_wait_while_they_are_loaded(self):
        """Each puts a directory at its own top, though the other was loaded meanwhile."""
        ports = harness.free_port(), harness.free_port()
        self.write("meeting.lua", "return {here = 0}")
        for name in "ab":
            os.mkdir(f"{self.directory}/{name}")
            self.write(f"{name}/.preload", f"""
              local meeting = require "meeting"
              meeting.here = meeting.here + 1
              for _ = 1, 500 do
                if meeting.here == 2 then break end
                ba.sleep(10)
              end
              local own = ba.create.dir "own"
              own:setfunc(function(_ENV) print "of {name}" end)
              trace("inserted", own:insert(), meeting.here)
            """)
        daemon = self.service("".join(f'service "{name}" {{ app = "{name}", listen = "127.0.0.1:{port}" }}\n'
                                      for name, port in zip("ab", ports)), ports)
        daemon.wait_log("inserted\ttrue\t2", count=2)
        for name, port in zip("ab", ports):
            with self.connect(port) as s:
                s.sendall(b"GET /own HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                self.assertTrue(harness.read_all(s).endswith(b"\r\n\r\nof %s\n" % name.encode()))


class TlsBesideTest(Tree):
    def test_both(self):
        self.assertEqual(self.text("/family/all.txt", user="kid:k", tls=True), "for all")
        self.assertEqual(self.text("/family/all.txt", user="kid:k"), "for all")
        status, headers, _ = self.get("/secure/a%20b?c=d&e")
        self.assertEqual((status, headers["Location"]), (307, f"https://127.0.0.1:{self.tls}/secure/a%20b?c=d&e"))
        self.assertEqual(self.text("/secure/a%20b?c=d", tls=True), "secure\ta b\n")


class FormTest(Tree):
    def upload(self, body, path="/upload.lsp", boundary="XyZ", chunked=None):
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        status, _, body = self.get(path, method="POST", body=chunked or body, headers=headers)
        self.assertEqual(status, 200, body)
        return json.loads(body)

    @staticmethod
    def form(*parts, boundary="XyZ", end="--\r\n"):
        return b"".join(f"--{boundary}\r\n".encode() + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + \
            f"--{boundary}{end}".encode()

    def test_fields_and_files(self):
        field = 'Content-Disposition: form-data; name="%s"'
        data = harness.noise(3 << 20) + b"\r\n--XyY almost\r\n--Xy"
        body = self.form((field % "a", b"1"), (field % "empty", b""),
                         (field % 'f"' + '; filename="C:\\dir\\a b.bin"\r\nContent-Type: application/x-thing\r\nContent-Transfer-Encoding: binary', data),
                         (field % "ä\\\"q", "zeile 1\r\nzeile 2".encode()))
        body = body.replace(b'name="f""', b"name=f")
        for chunked in (None, [body[i:i + 7777] for i in range(0, len(body), 7777)]):
            got = self.upload(body, chunked=chunked)
            self.assertEqual(got["log"], ["field|a|1", "field|empty|", "file|f|C:\\dir\\a b.bin|application/x-thing|binary",
                                          "field|ä\"q|zeile 1\r\nzeile 2", "end"])
            self.assertEqual((got["ok"], got["size"], got["sum"]), (True, len(data), harness.digest(data)))
            self.assertLess(got["max"], 200000, "in pieces")
        # Byte by byte where it matters: every cut between two reads.
        small = b"preamble\r\n" + self.form((field % "x", b"-\r\n--XyY\r\n-"), (field % "f" + '; filename=""', b"")) + b"epilogue"
        for cut in range(1, len(small), 3):
            self.assertEqual(self.upload(small, chunked=[small[:cut], small[cut:]])["log"],
                             ["field|x|-\r\n--XyY\r\n-", "file|f||nil|nil", "end"], cut)

    def test_what_is_wrong(self):
        field = 'Content-Disposition: form-data; name="x"'
        for body, path, error in ((b"", "", "the form ends too early"), (b"no boundary", "", "the form ends too early"),
                                  (self.form((field, b"1"), end=""), "", "the form ends too early"),
                                  (self.form((field, b"1"), end="x"), "", "the form ends too early"),
                                  (self.form((field, b"1" * 9000)), "", "too long a field"),
                                  (self.form((field, b"1" * 11)), "?size=10", "too long a field"),
                                  (self.form((field + "\r\nX: " + "y" * 9000, b"1")), "", "too long a head of a part"),
                                  (self.form(("X: y", b"1")), "", "a part without a name"),
                                  (self.form(*[(field, b"")] * 1001), "", "too many parts")):
            got = self.upload(body, "/upload.lsp" + path)
            self.assertEqual((got["ok"], got.get("err", got), got["log"][-1]), (False, error, "error|" + error))
        got = self.upload(b"x", boundary="")
        self.assertEqual((got["ok"], got["err"]), (False, "not multipart/form-data"))
        got = self.upload(self.form((field + '; filename="f"', harness.noise(1 << 20))), "/upload.lsp?stop=100000")
        self.assertEqual((got["ok"], got["err"]), (False, "stopped"))
        self.assertLess(got["size"], 1 << 20)

    def test_names_in_quotes(self):
        """What looks like a parameter inside of a quoted string is none; names of parameters have no case."""
        def log(disposition, **options):
            return self.upload(self.form(("Content-Disposition: form-data" + disposition, b"v")), **options)["log"][0]

        self.assertEqual(log('; name="a; filename=evil"'), "field|a; filename=evil|v")
        self.assertEqual(log('; filename="x; name=zzz"; name="a"'), "file|a|x; name=zzz|nil|nil")
        self.assertEqual(log('; x="\\"; name=b";NAME = a ; FileName=f'), "file|a|f|nil|nil")
        self.assertEqual(log("; ;x; name=a; name=b"), "field|a|v")
        for bad in ('; name="a', "; xname=a", '; x="; name=a"', "; filename=a", ";" * 8000):
            self.assertEqual(log(bad), "error|a part without a name", bad)

    def test_many_fields(self):
        field = 'Content-Disposition: form-data; name="x"'
        self.assertEqual(self.upload(self.form(*[(field, b"1" * 8000)] * 100))["log"][-1], "end")
        self.assertEqual(self.upload(self.form(*[(field, b"1" * 8000)] * 140))["log"][-1], "error|too long fields")
        self.assertEqual(self.upload(self.form(*[(field, b"1" * 8000)] * 140), "/upload.lsp?size=20000")["log"][-1], "end")
        self.assertEqual(self.text("/parts.lsp"), "true\t998\ttrue\n", "what follows a part is not copied for each")

    def test_an_error_without_a_value(self):
        status, _, body = self.get("/raise.lsp", method="POST", body=self.form(('Content-Disposition: form-data; name="x"', b"1")),
                                   headers={"Content-Type": "Multipart/Form-Data; x=\"boundary=no\"; Boundary=XyZ"})
        self.assertEqual((status, body), (200, b"false\tnil\n"))

    def test_a_long_line_without_a_colon(self):
        """It is looked at once, not again from each of its bytes: the CPU budget would end the page."""
        part = ("a" * 7000 + '\r\nContent-Disposition: form-data; name="x"', b"1")
        self.assertEqual(self.upload(self.form(*[part] * 100))["log"][-1], "end")

    def test_forms_with_mistakes(self):
        """Whatever comes, the page gets an answer and nothing is raised."""
        rng = random.Random(7578)
        field = 'Content-Disposition: form-data; name="%s"'
        good = self.form((field % "a", b"1"), (field % "b" + '; filename="f"\r\nContent-Type: x/y', b"--Xy\r\n" * 20), (field % "c", b"\r\n"))
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * harness.SLOW)
        for _ in range(300):
            body = bytearray(good)
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(body))
                change = rng.choice("flip cut copy end".split())
                if change == "flip":
                    body[at] = rng.choice(b'\r\n-"\\; =:\0\xffX')
                elif change == "cut":
                    del body[at:at + rng.randint(1, 30)]
                elif change == "copy":
                    body[at:at] = body[at:at + rng.randint(1, 60)]
                else:
                    del body[max(at, 1):]
            c.request("POST", "/upload.lsp", bytes(body), {"Content-Type": "multipart/form-data; boundary=XyZ"})
            r = c.getresponse()
            self.assertEqual(r.status, 200, bytes(body))
            got = json.loads(r.read())
            self.assertEqual(got["log"][-1], "end" if got["ok"] else "error|" + got["err"], bytes(body))
        c.close()

    def test_an_upload_costs_no_memory(self):
        if harness.SANITIZER:
            self.skipTest("memory of sanitizers")
        before = self.daemon.rss()
        head = b'--XyZ\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
        got = self.upload(None, chunked=iter([head] + [harness.noise(1 << 20)] * 32 + [b"\r\n--XyZ--\r\n"]))
        self.assertEqual((got["ok"], got["size"]), (True, 32 << 20))
        self.assertLess(self.daemon.rss() - before, 16 << 20)


class CompressionTest(Tree):
    def test_a_page_that_agrees_to_it(self):
        with self.connect(self.port) as s:
            peer, head = ws.connect(s, "/ws.lsp", header=[("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")])
            self.assertEqual(head["sec-websocket-extensions"], "permessage-deflate")
            text = b"compressed again and again " * 400
            out, back = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
            for _ in range(2):
                peer.send((out.compress(text) + out.flush(zlib.Z_SYNC_FLUSH))[:-4], ws.TEXT, rsv=4)
                frame = peer.frame()
                self.assertEqual((frame.rsv, frame.op), (4, ws.TEXT))
                self.assertLess(len(frame.payload), 400)
                self.assertEqual(back.decompress(frame.payload + b"\0\0\xff\xff"), text)
        with self.connect(self.port) as s:
            peer, head = ws.connect(s, "/ws.lsp")
            self.assertNotIn("sec-websocket-extensions", head)
            peer.send(b"plain", ws.TEXT)
            self.assertEqual(peer.message(), (ws.TEXT, b"plain"))


if __name__ == "__main__":
    harness.main()
