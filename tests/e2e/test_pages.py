"""The page host: an application of our own (www/) behind real clients: curl, http.client, raw sockets."""

import email
import hashlib
import html
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import zipfile

import harness
import pki
import web
import ws

WWW = os.path.join(harness.HERE, "www")


class Pages(web.Client):
    """A daemon with a copy of the application."""

    def setUp(self, extra=""):
        super().setUp()
        self.www = os.path.join(self.directory, "www")
        shutil.copytree(WWW, self.www)
        self.port = harness.free_port()
        self.daemon = self.service(f'service "www" {{ app = "www", listen = "127.0.0.1:{self.port}", {extra} }}\n',
                                   [self.port])
        self.daemon.wait_log("modules loaded")

    def talk(self, data, shut=False):
        """Everything that comes back on a connection."""
        with self.connect(self.port) as s:
            s.sendall(data)
            if shut:
                s.shutdown(socket.SHUT_WR)
            return harness.read_all(s)

    def curl(self, *arguments):
        run = subprocess.run([self.need("curl"), "-sS", "--max-time", "60", *arguments], capture_output=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        return run.stdout


def request(path="/docs/plain.txt", method="GET", head="", version="1.1", host="x"):
    return f"{method} {path} HTTP/{version}\r\nHost: {host}\r\n{head}\r\n".encode()


PLAIN = b"plain text\n"


class StaticTest(Pages):
    def test_types_and_index(self):
        for name, kind in {"a.css": "text/css; charset=utf-8", "a.png": "image/png", "a": "application/octet-stream",
                           "a.js": "text/javascript; charset=utf-8", "a.wasm": "application/wasm"}.items():
            self.write(f"www/{name}", "content")
            status, headers, body = self.get(f"/{name}")
            self.assertEqual((status, body), (200, b"content"), name)
            self.assertEqual(headers["Content-Type"], kind, name)
        self.assertEqual(self.text("/docs/"), "<p>the folder's index</p>\n")
        status, headers, _ = self.get("/docs?a=b")
        self.assertEqual((status, headers["Location"].split("/", 3)[3]), (301, "docs/?a=b"))
        self.assertEqual(self.get("/docs/plain.txt/")[0], 404)
        self.assertEqual(self.get("/.lua/")[0], 404)
        os.mkdir(f"{self.www}/empty")
        self.assertEqual(self.get("/empty/")[0], 404)

    def test_no_way_out(self):
        secret = self.write("secret", "secret")
        os.symlink(secret, f"{self.www}/link")
        os.symlink("docs/plain.txt", f"{self.www}/inside")
        self.write("www/docs/.hidden", "hidden")
        self.write("www/a b%.txt", "odd name")
        for path in ("/../secret", "/docs/../../secret", "/%2e%2e/secret", "/..%2fsecret", "/docs/%2e%2e/%2e%2e/secret", "/link",
                     "/.preload", "/%2epreload", "/.lua/greeting.lua", "/docs/.hidden", "/docs/./.hidden", "/secret%00.txt",
                     "/docs/plain.txt%00", "/..\\secret", "/docs/..;/.preload", "/%", "/%2", "/%zz", "//../secret"):
            status, _, body = self.get(path)
            self.assertIn(status, (400, 404), path)
            self.assertNotIn(b"secret", body, path)
        self.assertEqual(self.text("/inside"), "plain text\n")
        self.assertEqual(self.text("/a%20b%25.txt"), "odd name")
        for path in ("/docs/../docs/plain.txt", "//docs///plain.txt", "/./docs/%70lain.txt", "http://elsewhere/docs/plain.txt?x"):
            self.assertEqual(self.text(path), "plain text\n", path)

    def test_conditions(self):
        status, headers, body = self.get("/docs/plain.txt")
        etag, modified = headers["ETag"], headers["Last-Modified"]
        self.assertEqual((status, body, headers["Accept-Ranges"]), (200, PLAIN, "bytes"))
        old = "Thu, 01 Jan 1970 00:00:00 GMT"
        for fields, expected in (
                ({"If-None-Match": etag}, 304), ({"If-None-Match": f'"x", W/{etag}'}, 304), ({"If-None-Match": "*"}, 304),
                ({"If-None-Match": '"x"'}, 200), ({"If-None-Match": '"x"', "If-Modified-Since": modified}, 200),
                ({"If-Modified-Since": modified}, 304), ({"If-Modified-Since": old}, 200), ({"If-Modified-Since": "nonsense"}, 200),
                ({"If-Match": etag}, 200), ({"If-Match": "*"}, 200), ({"If-Match": '"x"'}, 412), ({"If-Match": f"W/{etag}"}, 412),
                ({"If-Unmodified-Since": old}, 412), ({"If-Unmodified-Since": modified}, 200)):
            status, headers, body = self.get("/docs/plain.txt", headers=fields)
            self.assertEqual((status, body), (expected, PLAIN if expected == 200 else b""), fields)
            self.assertEqual(headers["ETag"], etag)
        self.write("www/docs/plain.txt", "changed, and longer")
        harness.until(lambda: self.get("/docs/plain.txt", headers={"If-None-Match": etag})[2] == b"changed, and longer", 10,
                      "the new content")

    def test_ranges(self):
        big = harness.noise(300001)
        self.write("www/big", big)
        for path, whole in (("/docs/plain.txt", PLAIN), ("/big", big)):
            n = len(whole)
            etag = self.get(path)[1]["ETag"]
            for text, part in (("bytes=0-0", (0, 0)), ("bytes=2-5", (2, 5)), ("bytes=3-", (3, n - 1)), ("bytes=-4", (n - 4, n - 1)),
                               (f"bytes=1-{n + 5}", (1, n - 1)), (f"bytes=-{n + 5}", (0, n - 1)), ("BYTES=1-2", (1, 2)), ("bytes=" + " " * 8000 + "x", None), ("bytes= 1-2", None),
                               ("bytes=5-2", None), ("bytes=3-4,0-1", None), ("bytes=0-3,2-4", None), ("bytes=0-1,x", None),
                               ("bytes=" + ",".join(f"{i}-{i}" for i in range(0, 40, 2)), None), ("bytes=0-1,99999999-", (0, 1)), ("lines=1-2", None), ("bytes=", None), ("bytes=-", None),
                               ("bytes=a-b", None), ("bytes=-99999999999999999999", (0, n - 1)),
                               ("bytes=1-99999999999999999999", (1, n - 1))):
                status, headers, body = self.get(path, headers={"Range": text})
                if part:
                    self.assertEqual((status, body), (206, whole[part[0]:part[1] + 1]), text)
                    self.assertEqual(headers["Content-Range"], f"bytes {part[0]}-{part[1]}/{n}")
                else:
                    self.assertEqual((status, body), (200, whole), text)
            for text in (f"bytes={n}-", "bytes=-0", "bytes=99999999999999999999-", "bytes=99999999999999999999-5"):
                status, headers, _ = self.get(path, headers={"Range": text})
                self.assertEqual((status, headers["Content-Range"]), (416, f"bytes */{n}"), text)
            self.assertEqual(self.get(path, headers={"Range": "bytes=0-0", "If-Range": etag})[2], whole[:1])
            self.assertEqual(self.get(path, headers={"Range": "bytes=0-0", "If-Range": '"x"'})[2], whole)
            status, headers, body = self.get(path, method="HEAD", headers={"Range": "bytes=1-2"})
            self.assertEqual((status, headers["Content-Length"], body), (206, "2", b""))
            status, headers, body = self.get(path, headers={"Range": "bytes=0-1, 3-4,-2"})
            self.assertEqual((status, headers["Content-Range"]), (206, None))
            message = email.message_from_bytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
            self.assertEqual(message.get_content_type(), "multipart/byteranges")
            self.assertEqual([(p["Content-Range"], p.get_payload(decode=True)) for p in message.get_payload()],
                             [(f"bytes 0-1/{n}", whole[:2]), (f"bytes 3-4/{n}", whole[3:5]), (f"bytes {n - 2}-{n - 1}/{n}", whole[-2:])])
            self.assertEqual(self.get(path, method="HEAD", headers={"Range": "bytes=0-1, 3-4,-2"})[1]["Content-Length"], str(len(body)))

    def test_a_big_file_costs_no_memory(self):
        big = harness.noise(64 << 20)
        self.write("www/big", big)
        before = self.daemon.rss()
        with self.connect(self.port) as s:  # it does not read for the moment
            s.sendall(request("/big"))
            self.assertEqual(harness.digest(self.curl(f"http://127.0.0.1:{self.port}/big")), harness.digest(big))
            if not harness.SANITIZER:
                self.assertLess(self.daemon.rss() - before, 16 << 20)
            head, rest = b"", b""
            while b"\r\n\r\n" not in head:
                head += s.recv(4096)
            head, rest = head.split(b"\r\n\r\n", 1)
            self.assertEqual(harness.digest(rest + harness.read_exactly(s, len(big) - len(rest))), harness.digest(big))

    def test_methods(self):
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
            status, headers, _ = self.get("/docs/plain.txt", method=method, body=b"body")
            self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD"), method)
        self.assertEqual(self.get("/docs/plain.txt", method="TRACE")[0], 405)
        status, headers, body = self.get("*", method="OPTIONS")
        self.assertEqual((status, body), (204, b""))
        self.assertIn("GET", headers["Allow"])
        self.assertIn(b"HTTP/1.1 501 ", self.talk(request("a:80", "CONNECT", "Connection: close\r\n")))


class PageTest(Pages):
    def test_a_page(self):
        page = self.text("/?name=Bob%20%26+Co")
        self.assertIn("<title>Hello Bob & Co</title>", page)
        self.assertIn("<ul>\n<li>1</li><li>2</li><li>3</li>\n</ul>", page)
        url = f"http://127.0.0.1:{self.port}/"
        self.assertIn(f'<p id="state">1 1 /index.lsp {url} true</p>', page)
        self.assertIn("printed\tnil\t1.5\n", page)
        self.assertIn(f'<p id="state">2 2 /index.lsp {url}index.lsp true</p>', self.text("/index.lsp"))
        stopped = self.text("/index.lsp?stop=")
        self.assertIn("stopped\n", stopped)
        self.assertNotIn("printed", stopped)

    def test_a_page_that_changes(self):
        self.write("www/new.lsp", "one")
        self.assertEqual(self.text("/new.lsp"), "one")
        self.write("www/new.lsp", "<?lsp= 'two' .. 3 ?>")
        harness.until(lambda: self.text("/new.lsp") == "two3", 10, "the new page")
        os.remove(f"{self.www}/new.lsp")
        harness.until(lambda: self.get("/new.lsp")[0] == 404, 10, "its end")

    def test_forms(self):
        expected = "method\t%s\na\t1 2\na b\t1 2\tx\npair\ta\t1 2\npair\tb\tx\npair\tb\t&y\npair\tempty\t\nall\tx+&y\n"
        self.assertIn(expected % "GET", self.text("/form.lsp?a=1+2&b=x&b=%26y&empty="))
        form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        self.assertIn(expected % "POST", self.text("/form.lsp", method="POST", body=b"a=1+2&b=x&b=%26y&empty", headers=form))
        self.assertIn(expected % "POST", self.text("/form.lsp?a=1%202", method="POST", body=b"b=x&b=%26y&empty", headers=form))
        status, _, body = self.get("/form.lsp", method="POST", body=b"a" * (1 << 20) + b"b", headers=form)
        self.assertEqual(status, 413, body)
        chunked = request("/form.lsp", "POST", "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n"
                          "Connection: close\r\n") + b"8\r\na=1+2&b=x\r\n0\r\n\r\n"
        self.assertIn(b"HTTP/1.1 400 ", self.talk(chunked))  # one byte more than the chunk's size
        self.assertIn(b"b\t1 2\tx\n", self.talk(chunked.replace(b"8\r\na", b"9\r\na")))

    def test_bodies(self):
        for n in (0, 1, 65536, 5000001):
            body = harness.noise(n)
            expected = f"{n}\t{hashlib.sha256(body).hexdigest()}\n"
            self.assertIn(expected, self.text("/raw.lsp", method="POST", body=body))
            self.write("upload", body)
            expect = ["-H", "Expect: 100-continue"] if body else [] # curl 7.88 forgets the last chunk when it is the only one
            out = self.curl("-X", "POST", "-H", "Transfer-Encoding: chunked", *expect, "--data-binary", f"@{self.directory}/upload",
                            f"http://127.0.0.1:{self.port}/raw.lsp")
            self.assertIn(expected, out.decode())

    def test_expect(self):
        with self.connect(self.port) as s:
            s.sendall(request("/raw.lsp", "POST", "Expect: 100-continue\r\nContent-Length: 5\r\n"))
            self.assertEqual(harness.read_exactly(s, 25), b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(b"hello" + request("/unread.lsp", "POST", "Expect: 100-continue\r\nContent-Length: 5\r\n"))
            rest = harness.read_all(s)  # nobody wants that body: the answer, and the end
            self.assertEqual(rest.count(b"HTTP/1.1 "), 2)
            self.assertIn(b"5\t" + hashlib.sha256(b"hello").hexdigest().encode(), rest)
            self.assertIn(b"HTTP/1.1 403 Forbidden\r\n", rest)
            self.assertIn(b"no body &#60;wanted&#62;", rest)
            self.assertNotIn(b"100 Continue", rest)

    def test_a_body_nobody_reads(self):
        with self.connect(self.port) as s:
            s.sendall(request("/unread.lsp", "POST", "Content-Length: 100000\r\n") + harness.noise(100000) +
                      request(head="Connection: close\r\n"))
            out = harness.read_all(s)
            self.assertEqual(out.count(b"HTTP/1.1 403"), 1)
            self.assertTrue(out.endswith(PLAIN))
        out = self.talk(request("/unread.lsp", "POST", "Content-Length: 100000000\r\n") + harness.noise(400000))
        self.assertEqual(out.count(b"HTTP/1.1 "), 1)

    def test_long_answers(self):
        for n in (0, 1, 163, 164, 165, 10000):
            expected = (b"x" * 99 + b"\n") * n
            status, headers, body = self.get(f"/long.lsp?n={n}")
            self.assertEqual((status, harness.digest(body.rstrip(b"\n"))), (200, harness.digest(expected.rstrip(b"\n"))))
            self.assertEqual("Content-Length" in headers, n < 164, n)
            head = self.talk(request(f"/long.lsp?n={n}", "HEAD", "Connection: close\r\n"))
            self.assertTrue(head.endswith(b"\r\n\r\n"), head)
            old = self.talk(request(f"/long.lsp?n={n}", version="1.0"))
            self.assertNotIn(b"Transfer-Encoding", old)
            self.assertEqual(old.split(b"\r\n\r\n", 1)[1].rstrip(b"\n"), expected.rstrip(b"\n"))

    def test_a_stream(self):
        status, headers, body = self.get("/stream.lsp")
        self.assertEqual((status, headers["Content-Type"], headers["Transfer-Encoding"]), (200, "text/event-stream", "chunked"))
        self.assertEqual(body.rstrip(b"\n"), b"data: 1\n\ndata: 2\n\ndata: 3")

    def test_errors(self):
        self.daemon.expect(r"GET /error.lsp peer=127.0.0.1:\d+\\nerror.lsp:6: attempt to index a nil value")
        self.daemon.expect(r"syntax.lsp:4: ")
        self.daemon.expect(r"unclosed.lsp:3: <\?lsp without \?>")
        for page in ("error", "syntax", "unclosed"):
            for _ in range(2):
                status, headers, body = self.get(f"/{page}.lsp")
                self.assertEqual(status, 500)
                self.assertNotIn(b"lsp:", body)
                self.assertEqual(headers["Content-Length"], str(len(body)))

    def test_what_outlives_a_request(self):
        self.assertIn("early", self.text("/late.lsp"))
        late = self.daemon.wait_log("late:.*").group()
        self.assertIn("global of the request\tfalse", late)
        self.assertEqual(late.count("the request has ended"), 2)

    def test_headers_and_cookies(self):
        status, headers, body = self.get("/headers.lsp", headers={"Cookie": 'a=b; taste="sour"'})
        body = body.decode()
        self.assertEqual((status, headers["X-One"], headers.get_all("X-Two")), (299, "2", ["a", "b"]))
        self.assertNotIn("X-Gone", headers)
        self.assertNotIn("X-Smuggled", headers)
        self.assertEqual(headers["Set-Cookie"], "taste=sweet; Path=/; Max-Age=60")
        self.assertRegex(body, r"false\t.*X-Bad")
        self.assertIn("cookie\tsour\n", body)
        self.assertIn("secure\tfalse\tversion\t1.1\tdomain\t127.0.0.1\n", body)
        self.assertTrue(re.search(r"GMT$", headers["Date"]))

    def test_redirect_json_reset_include_forward(self):
        status, headers, body = self.get("/redirect.lsp?to=/x%20y")
        self.assertEqual((status, headers["Location"], body), (302, "/x y", b""))
        self.daemon.expect("setheader: header field 'Location'")
        self.assertEqual(self.get("/redirect.lsp?to=/a%0d%0aX-Smuggled:1")[0], 500)
        status, headers, body = self.get("/json.lsp")
        self.assertEqual((status, headers["Content-Type"], body), (200, "application/json", b'{"answer":42}'))
        status, headers, body = self.get("/reset.lsp")
        self.assertEqual((headers["X-Gone"], body), (None, b"kept\n"))
        self.assertEqual(self.text("/include.lsp").split("\n")[0], "</docs/part.lsp 1|nil\tpagenotfound")
        self.assertEqual(self.text("/forward.lsp"), "/docs/part.lsp 2")
        self.assertIn("toomanyincludes", self.text("/loop.lsp"))

    def test_functions_of_the_application(self):
        self.assertEqual(self.text("/inline/text"), "path inline/text\n")

    def test_blocking_calls(self):
        peer = self.server(harness.echo)
        self.assertIn("ping\nagain\n", self.text(f"/blocking.lsp?port={peer.port}"))

    def test_sessions(self):
        self.assertIn("no session", self.text("/session.lsp"))
        status, headers, body = self.get("/session.lsp?create=1")
        self.assertEqual((status, body.split(b"\t")[1]), (200, b"1"))
        name, _, attributes = headers["Set-Cookie"].partition(";")
        self.assertIn("HttpOnly", attributes)
        self.assertIn("SameSite=Lax", attributes)
        self.assertNotIn("Secure", attributes)
        for n in (2, 3):
            self.assertTrue(self.text("/session.lsp", headers={"Cookie": f"x=y; {name}"}).startswith(f"count\t{n}\t{n}\ttrue\t1800\tfalse"))
        self.assertIn("no session", self.text("/session.lsp", headers={"Cookie": name[:-1]}))
        self.assertIn("no session", self.text("/session.lsp?end=1", headers={"Cookie": name}))
        self.assertIn("no session", self.text("/session.lsp", headers={"Cookie": name}))

    def test_the_end_of_the_client_ends_a_page(self):
        self.write("www/endless.lsp", "<?lsp while true do response:write(('x'):rep(20000)) ba.sleep(1) end ?>")
        with self.connect(self.port) as s:
            s.sendall(request("/endless.lsp"))
            s.recv(1000)
            harness.reset(s)
        harness.until(lambda: self.status()["workers"][0]["connections"] == 0 if "workers" in self.status() else True, 10, "its end")


class GuardTest(Pages):
    def curl_code(self, *arguments):
        return self.curl("-w", "[%{http_code}]", *arguments).decode()

    def test_basic(self):
        url = f"http://127.0.0.1:{self.port}/guarded/basic"
        status, headers, _ = self.get("/guarded/basic")
        self.assertEqual((status, headers["WWW-Authenticate"]), (401, 'Basic realm="the \\"inner\\" room", charset="UTF-8"'))
        self.assertEqual(self.curl_code("-u", "alice:wonder:land", url), "welcome\talice\tGET\n[200]")
        self.assertEqual(self.curl_code("-u", "checked:by us", url), "welcome\tchecked\tGET\n[200]")
        for wrong in ("alice:wonder", "alice:", "nobody:x", "checked:x", ":"):
            self.assertIn("[401]", self.curl_code("-u", wrong, url))
        for bad in ("Basic", "Basic ====", "Basic YWxpY2U=", "Bearer x"):
            self.assertEqual(self.get("/guarded/basic", headers={"Authorization": bad})[0], 401, bad)

    def test_digest(self):
        url = f"http://127.0.0.1:{self.port}/guarded/digest?a=b"
        status, headers, _ = self.get("/guarded/digest")
        self.assertEqual((status, len(headers.get_all("WWW-Authenticate"))), (401, 2))
        self.assertIn("welcome\tbob", self.curl_code("--digest", "-u", "bob:builder", url, url))
        fields = {k: v for k, v in re.findall(r'(\w+)="?([^",]+)"?', headers.get_all("WWW-Authenticate")[1])}

        def md5(text):
            return hashlib.md5(text.encode()).hexdigest()

        ha1, ha2 = md5("bob:room:builder"), md5("GET:/guarded/digest")
        answer = md5(f"{ha1}:{fields['nonce']}:00000001:c:auth:{ha2}")
        self.assertEqual(self.get("/guarded/digest", headers={"Authorization": (
            f'Digest username="bob", realm="room", nonce="{fields["nonce"]}", uri="/guarded/digest", algorithm=md5, qop=auth, nc=00000001, '
            f'cnonce="c", response="{answer}"')})[0], 200, "names of algorithms have no case")
        self.assertIn("[401]", self.curl_code("--digest", "-u", "bob:wrong", url))
        self.assertIn("[401]", self.curl_code("--digest", "-u", "checked:by us", url))  # nothing to compare with
        self.assertIn("[401]", self.curl_code("-u", "bob:builder", url))
        out = self.curl("--digest", "-u", "bob:builder", "-v", "--stderr", "-", url).decode()
        used = re.findall(r"> Authorization: (.*?)\r?\n", out)[-1]
        self.assertEqual(self.get("/guarded/digest?a=b", headers={"Authorization": used})[0], 401, "an answer works once")
        self.assertEqual(self.get("/guarded/digest?a=c", headers={"Authorization": used})[0], 401)

    def test_fields_that_could_take_long(self):
        for name, value in (("Authorization", "Digest " + "a" * 8100), ("Authorization", "Digest " + "a=" * 4000),
                            ("Authorization", "Digest " + " " * 8000 + "x"), ("Cookie", "a=b" + " " * 4000 + "x" + " " * 4000 + "y"),
                            ("Cookie", " " * 8100), ("Cookie", "cosockd_session=" + " " * 4000 + "x" + " " * 4000 + "y")):
            before = self.daemon.cpu_seconds()
            for kind in ("digest", "form"):
                self.get(f"/guarded/{kind}", headers={name: value})
            self.assertLess(self.daemon.cpu_seconds() - before, 0.15 * harness.SLOW, value[:40])

    def test_a_foreign_page(self):
        good = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        for origin in ("https://elsewhere.example", "http://127.0.0.1", f"http://127.0.0.1:{self.port}.example", "null", "", "127.0.0.1"):
            self.assertIn(b"Use WebSockets", self.get("/chat.lsp", headers=good | {"Origin": origin})[2], origin)
        for origin in ("http://test", "HTTPS://Test", None):
            with self.connect(self.port) as s:
                peer, _ = ws.connect(s, "/chat.lsp", header=[("Origin", origin)] if origin else [])
                peer.send(b"x", ws.TEXT)
                self.assertEqual(peer.message(), (ws.TEXT, b"x"))

    def test_many_sessions(self):
        _, headers, _ = self.get("/session.lsp?create=1")
        mine = {"Cookie": headers["Set-Cookie"].split(";")[0]}
        self.assertIn("count\t2", self.text("/session.lsp", headers=mine))
        with self.connect(self.port) as s:
            for _ in range(103):
                s.sendall(request("/session.lsp?create=1") * 100)
                got = b""
                while got.count(b"HTTP/1.1 200") < 100:
                    got += s.recv(1 << 16)
                self.assertEqual(got.count(b"Set-Cookie"), 100)
        self.assertIn("count\t3", self.text("/session.lsp", headers=mine), "who comes back is not driven out")

    def test_form(self):
        status, headers, body = self.get("/guarded/form?x=1")
        self.assertEqual((status, headers["Cache-Control"]), (200, "no-store"))
        self.assertIn(b'name="ba_username"', body)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        _, _, body = self.get("/guarded/form", method="POST", body=b"ba_username=bob&ba_password=no", headers=form)
        self.assertIn(b"Wrong name or password", body)
        status, headers, _ = self.get("/guarded/form?x=1", method="POST", body=b"ba_username=bob&ba_password=builder", headers=form)
        self.assertEqual((status, headers["Location"]), (303, f"http://127.0.0.1:{self.port}/guarded/form?x=1"))
        cookie = headers["Set-Cookie"].split(";")[0]
        self.assertEqual(self.text("/guarded/form?x=1", headers={"Cookie": cookie}), "welcome\tbob\tGET\n")
        self.assertIn("count\t1", self.text("/session.lsp", headers={"Cookie": cookie}))
        # A session from before the login is not the one after it.
        _, headers, _ = self.get("/session.lsp?create=1")
        before = headers["Set-Cookie"].split(";")[0]
        _, headers, _ = self.get("/guarded/form", method="POST", body=b"ba_username=bob&ba_password=builder",
                                 headers={**form, "Cookie": before})
        after = headers["Set-Cookie"].split(";")[0]
        self.assertNotEqual(before, after)
        self.assertIn("no session", self.text("/session.lsp", headers={"Cookie": before}))
        self.assertIn("count\t2", self.text("/session.lsp", headers={"Cookie": after}))
        self.assertIn("own form\tform\troom\tnil\tnil", self.text("/guarded/own"))


class PatientTest(Pages):
    def setUp(self):
        super().setUp('head_timeout = "1h"')

    def test_who_has_not_asked_yet_is_answered(self):
        """By a reload and a stop too: the request may be on its way."""
        with self.connect(self.port) as first, self.connect(self.port) as second:
            harness.until(lambda: self.status()["connections"] == 2, what="two connections")
            run = self.reload()
            self.assertEqual(run.returncode, 0, run.stderr)
            first.sendall(request())
            self.assertIn(b"200 OK", harness.read_all(first))
            self.daemon.signal(signal.SIGTERM)
            self.daemon.wait_log("stopping")
            second.sendall(request())
            self.assertIn(b"200 OK", harness.read_all(second))
        self.daemon.wait_exit()


class ConnectionTest(Pages):
    def setUp(self, extra='head_timeout = "1s", idle_timeout = "2s"'):
        super().setUp(extra)

    def test_keep_alive_and_pipelining(self):
        out = self.curl("-w", "[%{num_connects}]", f"http://127.0.0.1:{self.port}/docs/plain.txt",
                        f"http://127.0.0.1:{self.port}/docs/part.lsp").decode()
        self.assertEqual(out, "plain text\n[1]/docs/part.lsp 1[0]")
        out = self.talk(request() * 20 + request("/raw.lsp", "POST", "Content-Length: 3\r\n") + b"abc" + request("/long.lsp?n=200", "HEAD") +
                        request(method="HEAD") + b"\r\n" + request(head="Connection: close\r\n") + request("/never"))
        self.assertEqual(out.count(b"HTTP/1.1 200 OK\r\n"), 24)
        self.assertEqual(out.count(PLAIN), 21)
        self.assertEqual(out.count(b"Connection: close"), 1)
        self.assertNotIn(b"404", out)

    def test_many_pipelined_requests(self):
        self.write("www/slow.lsp", "<?lsp local t = 0 for i = 1, 40000 do t = t + i end print(t) ?>")
        out = self.talk(request("/slow.lsp") * 600 + request(head="Connection: close\r\n"))
        self.assertEqual(out.count(b"HTTP/1.1 200 OK"), 601)

    def test_http_1_0(self):
        out = self.talk(request(version="1.0") + request("/never"))
        self.assertEqual((out.count(b"HTTP/1.1 "), out.count(b"Connection: close\r\n")), (1, 1))
        out = self.talk(request(version="1.0", head="Connection: keep-alive\r\n") + request(version="1.0"))
        self.assertEqual((out.count(b"200 OK"), out.count(b"Connection: keep-alive\r\n")), (2, 1))
        self.assertIn(b"200 OK", self.talk(b"GET /docs/plain.txt HTTP/1.0\r\n\r\n"))

    def test_time_limits(self):
        with self.connect(self.port) as slow, self.connect(self.port) as silent, self.connect(self.port) as idle:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            idle.sendall(request())
            self.assertIn(b"200 OK", idle.recv(10000))
            self.assertIn(b"HTTP/1.1 408 Request Timeout\r\n", harness.read_all(slow))
            self.assertEqual(harness.read_all(silent), b"")
            self.assertEqual(harness.read_all(idle), b"")

    def test_a_stop_ends_idle_connections(self):
        with self.connect(self.port) as idle:
            idle.sendall(request())
            self.assertIn(b"200 OK", idle.recv(10000))
            self.daemon.signal(signal.SIGTERM)
            self.assertEqual(harness.read_all(idle), b"")
        self.daemon.wait_exit()
        self.assertNotIn("cut=", self.daemon.log())
        self.daemon.wait_log("application unloaded")

    def test_a_reset_within_a_head(self):
        s = self.connect(self.port)
        s.sendall(b"GET / HTTP/1.1\r\n")
        harness.until(lambda: self.status()["counters"]["bytes_in"] > 0, what="the first line")
        harness.reset(s)
        self.daemon.wait_log("connection closed .*ECONNRESET")

    def test_a_reload_hands_over(self):
        with self.connect(self.port) as idle:
            idle.sendall(request())
            self.assertIn(b"200 OK", idle.recv(10000))
            run = self.reload()
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertEqual(harness.read_all(idle), b"")
        self.daemon.wait_log("application unloaded")
        self.daemon.wait_log("modules loaded", count=2)
        self.assertIn("plain text", self.text("/docs/plain.txt"))

    def test_bad_requests(self):
        host = "Host: x\r\n"
        for status, data in (
                (400, "GET / HTTP/1.1\r\n\r\n"),
                (400, f"GET / HTTP/1.1\r\n{host}{host}\r\n"),
                (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
                (400, "GET / HTTP/1.1\r\nHost: x@y\r\n\r\n"),
                (400, "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
                (400, f"GET  / HTTP/1.1\r\n{host}\r\n"),
                (400, f"GET / HTTP/1.1 \r\n{host}\r\n"),
                (400, f"GET / HTTP/1.1\n{host}\n"),
                (400, f"GET / HTTP/1.1\r\n{host}A: b\n\r\n"),
                (400, f"GET / HTTP/1.1\r\n{host}A: b\rC: d\r\n\r\n"),
                (400, f"GET / HTTP/1.1\r\n{host}A : b\r\n\r\n"),
                (400, f"GET / HTTP/1.1\r\n{host} A: b\r\n\r\n"),
                (400, f"GET / HTTP/1.1\r\n A: b\r\n{host}\r\n"),
                (400, f"GET / HTTP/1.1\r\n{host}A: b\r\n c\r\n\r\n"),
                (400, f"GET / HTTP/1.1\r\n{host}A\r\n\r\n"),
                (400, f"GET / HTTP/1.1\r\n{host}: b\r\n\r\n"),
                (400, f"GET / HTTP/1.1\r\n{host}A: \0\r\n\r\n"),
                (400, f"GET / HTTP/1.1\r\n{host}A\x01: b\r\n\r\n"),
                (400, f"GET /\x7f HTTP/1.1\r\n{host}\r\n"),
                (400, f"GET /\xe4 HTTP/1.1\r\n{host}\r\n"),
                (400, f"GET /#f HTTP/1.1\r\n{host}\r\n"),
                (400, f"GET example.com HTTP/1.1\r\n{host}\r\n"),
                (400, f"GET * HTTP/1.1\r\n{host}\r\n"),
                (400, f"GET / HTTP/1.1.1\r\n{host}\r\n"),
                (400, f"GET / HTTP/11\r\n{host}\r\n"),
                (400, f"GET / XTTP/1.1\r\n{host}\r\n"),
                (400, f"GET / http/1.1\r\n{host}\r\n"),
                (400, f"GET /\r\n{host}\r\n"),
                (505, f"GET / HTTP/2.0\r\n{host}\r\n"),
                (505, f"GET / HTTP/0.9\r\n{host}\r\n"),
                (414, f"GET /{'a' * 9000} HTTP/1.1\r\n{host}\r\n"),
                (431, f"GET / HTTP/1.1\r\n{host}A: {'a' * 9000}\r\n\r\n"),
                (431, f"GET / HTTP/1.1\r\n{host}" + "A: b\r\n" * 101),
                (417, f"POST / HTTP/1.1\r\n{host}Expect: 200-ok\r\nContent-Length: 1\r\n\r\na"),
        ):
            self.check_refused(status, data)

    def test_smuggling(self):
        host = "Host: x\r\n"
        hidden = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        for status, fields, body in (
                (400, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
                (400, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
                (400, "Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
                (400, "Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
                (400, "Content-Length: 5, 5\r\n", "hello"),
                (400, "Content-Length: +5\r\n", "hello"),
                (400, "Content-Length: -1\r\n", ""),
                (400, "Content-Length: 0x5\r\n", "hello"),
                (400, "Content-Length: 5 \t6\r\n", "hello"),
                (400, "Content-Length: \r\n", ""),
                (400, "Content-Length: 18446744073709551616\r\n", ""),
                (400, "Content-Length : 5\r\n", "hello"),
                (400, "Content-Length\t: 5\r\n", "hello"),
                (400, "X: y\nContent-Length: 5\r\n", "hello"),
                (400, "X: y\rContent-Length: 5\r\n", "hello"),
                (400, "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
                (400, "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
                (501, "Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n"),
                (501, "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
                (400, "Transfer-Encoding: \x0bchunked\r\n".replace("\x0b", "'"), "0\r\n\r\n"),
                (400, "Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
                (400, "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
                (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
                (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
                (400, "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
                (400, "Transfer-Encoding: \r\n", ""),
        ):
            self.check_refused(status, f"POST / HTTP/1.1\r\n{host}{fields}\r\n{body}{hidden}")
        self.check_refused(400, f"POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")
        for chunks in ("0x5\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n",
                       "5 \r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n", "\r\n5\r\nhello\r\n0\r\n\r\n",
                       "10000000000000005\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n", "5\r\nhello\r\n0\r\nA : b\r\n\r\n",
                       "5\r\nhello\r\n0\r\n A: b\r\n\r\n", "5\r\nhello\r\n00\r\nA\r\n\r\n"):
            out = self.talk(f"POST /raw.lsp HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{chunks}{hidden}".encode("latin-1"))
            self.assertEqual(out.count(b"HTTP/1.1 "), 1, chunks)
            self.assertNotIn(b"404", out, chunks)

    def check_refused(self, status, data):
        out = self.talk(data.encode("latin-1"))
        self.assertEqual(out.count(b"HTTP/1.1 "), 1, data[:100])
        self.assertEqual(int(out[9:12]), status, data[:100])
        self.assertIn(b"Connection: close\r\n", out)


class SocketTest(Pages):
    def test_req2sock(self):
        with self.connect(self.port) as s:
            s.sendall(request("/raw-socket.lsp?q=1") + b"early")
            self.daemon.wait_log("raw\t")
            self.assertEqual(harness.read_exactly(s, 5), b"early")
            s.sendall(b"later")
            self.assertEqual(harness.read_exactly(s, 5), b"later")
        self.daemon.wait_log("echo ended")
        with self.connect(self.port) as s:
            s.sendall(request("/raw-socket.lsp?q=1", head="X-Flush: 1\r\n"))
            head = b""
            while b"\r\n\r\n" not in head:
                head += s.recv(100)
            self.assertIn(b"Content-Length: 5\r\n", head)
            s.sendall(b"later")
            self.assertEqual(harness.read_exactly(s, 5), b"later")

    def test_sock2req(self):
        out = self.talk(request("/async.lsp?name=first") + request("/async.lsp?name=second") + request(head="Connection: close\r\n"))
        self.assertEqual(out.count(b"HTTP/1.1 200 OK"), 3)
        self.assertLess(out.index(b"cosocket: first"), out.index(b"cosocket: second"))
        self.assertTrue(out.endswith(PLAIN))

    def test_sock2req_from_outside(self):
        out = self.talk(request("/async-outside.lsp?name=first") + request("/async-outside.lsp?name=second") +
                        request(head="Connection: close\r\n"))
        self.assertEqual(out.count(b"HTTP/1.1 200 OK"), 3)
        self.assertIn(b"a job: second", out)
        self.assertTrue(out.endswith(PLAIN))
        self.daemon.wait_log("reader ended", count=2)

    def test_what_is_no_request(self):
        self.write("www/wrong.lsp", "<?lsp print(pcall(ba.socket.req2sock, {})) print(ba.socket.sock2req(assert(ba.socket.udpcon())))?>")
        page = self.text("/wrong.lsp")
        self.assertIn("request expected", page)
        self.assertIn("nil\tincorrectuse", page)


class WebSocketTest(Pages):
    def websocket(self, path, **options):
        s = self.connect(self.port)
        return ws.connect(s, path, **options)

    def test_a_cosocket_of_the_application(self):
        peer, answer = self.websocket("/chat.lsp")
        self.assertEqual(answer["x-hub"], "ours")
        self.assertNotIn("sec-websocket-protocol", answer)
        for data, op in ((b"hello", ws.TEXT), (b"\0\xff", ws.BINARY), (harness.noise(60000), ws.BINARY)):
            peer.send(data, op)
            if len(data) < 8192:
                self.assertEqual(peer.message(), (op, data))
            else:
                self.assertEqual(peer.bytes(len(data)), data)
        peer.close()
        self.assertEqual(peer.closed(), 1000)
        self.daemon.wait_log("echo ended")

    def test_frames_that_came_with_the_request(self):
        with self.connect(self.port) as s:
            s.sendall(request("/chat.lsp", head="Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n") + ws.frame(b"early", ws.TEXT, mask=b"abcd"))
            first, answer = ws.read_head(s)
            self.assertIn(" 101 ", first)
            self.assertEqual(answer["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            self.assertEqual(ws.Peer(s, True).message(), (ws.TEXT, b"early"))

    def test_subprotocols(self):
        _, answer = self.websocket("/chat.lsp?sub=two", subprotocols=["one", "two"])
        self.assertEqual(answer["sec-websocket-protocol"], "two")
        _, answer = self.websocket("/chat.lsp?sub=other", subprotocols=["one", "two"])
        self.assertNotIn("sec-websocket-protocol", answer)

    def test_a_bad_handshake_leaves_the_page_its_answer(self):
        good = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        for wrong in ({"Sec-WebSocket-Version": "8"}, {"Sec-WebSocket-Key": "short"}, {"Connection": "close"}):
            status, _, body = self.get("/chat.lsp", headers={**good, **wrong})
            self.assertEqual((status, b"Use WebSockets" in body), (200, True), wrong)
        self.daemon.wait_log("chat:\tbadrequest", count=3)
        self.assertIn("Use WebSockets", self.text("/chat.lsp"))

    def test_pages_with_their_own(self):
        peer, _ = self.websocket("/ws-blocking.lsp")
        for n in (1, 2, 3):
            self.assertEqual(peer.message(), (ws.TEXT, f"message {n}".encode()))
        harness.reset(peer.sock)
        self.daemon.wait_log("blocking page ends\ttrue")
        peer, _ = self.websocket("/ws-cosocket.lsp")
        self.daemon.wait_log("cosocket page ends")
        self.assertEqual(peer.message(), (ws.TEXT, b"tick 1"))
        peer.send(b"word", ws.TEXT)
        while peer.message()[1] != b"got word":
            pass
        peer.close()
        self.daemon.wait_log("clock ends")

    def test_a_client_in_a_page(self):
        url = f"ws://127.0.0.1:{self.port}/chat.lsp"
        page = self.text(f"/wsecho.lsp?msg=to+and+fro&url={url}")
        self.assertRegex(page, r"request\ttrue\tnil\n(?i:x-hub)\tours\necho\tto and fro\ttrue\n")
        self.assertIn("status\t404", self.text(f"/wsecho.lsp?msg=x&url={url}/nowhere"))

    def test_a_guard(self):
        with self.assertRaises(ws.Refused) as e:
            self.websocket("/guarded/form")
        self.assertEqual(e.exception.status, 403)
        with self.assertRaises(ws.Refused) as e:
            self.websocket("/guarded/basic")
        self.assertEqual(e.exception.status, 401)

    def test_datagrams(self):
        port = harness.free_port()
        self.assertIn(f'<a href="http://127.0.0.1:{self.port}/udp.lsp?stop=">', self.text(f"/udp.lsp?port={port}"))
        self.daemon.wait_log("udp\tdatagram 2\t127.0.0.1\ttrue")
        self.text("/udp.lsp?stop=")
        self.daemon.wait_log("sender exits")
        self.daemon.wait_log("receiver exits")


class OriginsTest(Pages):
    def setUp(self, extra=""):
        super().setUp('origins = { "https://Elsewhere.example:8443" }')

    def test_pages_of_named_origins(self):
        for origin, may in (("https://elsewhere.example:8443", True), ("http://test", True), ("https://elsewhere.example", False),
                            ("http://elsewhere.example:8443", False)):
            with self.connect(self.port) as s:
                if may:
                    ws.connect(s, "/chat.lsp", header=[("Origin", origin)])[0].end()
                else:
                    with self.assertRaises(ws.Refused, msg=origin):
                        ws.connect(s, "/chat.lsp", header=[("Origin", origin)])

    def test_a_page_that_says_otherwise(self):
        self.write("www/open.lsp", """<?lsp
local sock = ba.socket.req2sock(request, nil, {origins = "*"})
if sock then sock:write("in", true) sock:close() end ?>""")
        for origin in ("https://other.example", "null", "http://test"):
            with self.connect(self.port) as s:
                self.assertEqual(ws.connect(s, "/open.lsp", header=[("Origin", origin)])[0].message(), (ws.TEXT, b"in"))

    def test_what_is_no_origin(self):
        path = self.config('service "www" { app = "www", listen = ":1", origins = "elsewhere.example" }\n', "wrong.lua")
        run = subprocess.run([harness.COSOCKD, "-t", "-c", path], capture_output=True, text=True, check=False, timeout=60)
        self.assertIn('origins: "elsewhere.example" is not one', run.stderr + run.stdout)
        self.assertEqual(run.returncode, 78)


class TlsTest(Pages):
    def setUp(self, extra=""):
        folder = tempfile.mkdtemp(prefix="cosockd-e2e-pki-")
        self.addCleanup(shutil.rmtree, folder)
        cert, key = pki.Pki(folder).issue("pages.example")
        super().setUp(f'tls = {{ cert = "{cert}", key = "{key}" }}')

    def test_over_tls(self):
        url = f"https://127.0.0.1:{self.port}"
        self.assertEqual(self.curl("-k", f"{url}/docs/plain.txt", f"{url}/docs/plain.txt"), PLAIN * 2)
        self.assertIn(f"{url}/ ", self.curl("-k", f"{url}/").decode())
        self.assertIn("; Secure", self.curl("-k", "-i", f"{url}/session.lsp?create=1").decode())
        self.assertIn("Secure: true", self.curl("-k", f"{url}/chat.lsp").decode())
        page = self.curl("-k", f"{url}/wsecho.lsp?msg=secret&url=wss://127.0.0.1:{self.port}/chat.lsp").decode()
        self.assertIn("echo\tsecret\ttrue\n", page)
        context = ssl._create_unverified_context()
        for origin, may in (("https://test", True), ("http://test", False)):
            with context.wrap_socket(self.connect(self.port)) as s:
                if may:
                    ws.connect(s, "/chat.lsp", header=[("Origin", origin)])
                else:
                    self.assertRaises(ws.Refused, ws.connect, s, "/chat.lsp", header=[("Origin", origin)])
        out = self.curl("-k", f"{url}/async.lsp?name=one", f"{url}/async.lsp?name=two", f"{url}/docs/plain.txt")
        self.assertEqual(out, b"answered by a cosocket: oneanswered by a cosocket: two" + PLAIN)


class DirectTest(harness.Case):
    def test_app_option(self):
        port = harness.free_port()
        os.mkdir(f"{self.directory}/pages")
        self.write("pages/index.lsp", "<?lsp= 6 * 7 ?>")
        self.write("pages/bad.lsp", "\n<?lsp x.y = 1 ?>")
        d = self.run_cosockd(["-p", harness.SCRIPTS, "--app", "pages", f"127.0.0.1:{port}"])
        d.wait_listening([port])
        d.expect("bad.lsp:2: ")
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        c.request("GET", "/")
        self.assertEqual(c.getresponse().read(), b"42")
        c.request("GET", "/bad.lsp")
        r = c.getresponse()
        self.assertEqual(r.status, 500)
        self.assertIn("bad.lsp:2: attempt to index a nil value (global 'x')", html.unescape(r.read().decode()))
        c.close()

    def test_a_zip_file(self):
        """The application as one file, with modules, pages and files, given by its path or beside the configuration."""
        def make(answer):
            with zipfile.ZipFile(f"{self.directory}/new.zip", "w", zipfile.ZIP_DEFLATED) as z:
                z.writestr(".preload", "mako.createloader(io) answer = require 'answer'")
                z.writestr(".lua/answer.lua", f"return {answer}")
                z.writestr("index.lsp", "<?lsp= app.answer ?> <?lsp response:include 'dir/part.txt' ?>")
                z.writestr("dir/part.txt", "part")
            os.rename(f"{self.directory}/new.zip", f"{self.directory}/www.zip")

        make(42)
        direct, port = harness.free_port(), harness.free_port()
        d = self.run_cosockd(["-p", harness.SCRIPTS, "--app", "www.zip", f"127.0.0.1:{direct}"])
        d.wait_listening([direct])
        self.service(f'service "www" {{ app = "www.zip", listen = "127.0.0.1:{port}" }}\n', [port])

        def get(port, path="/"):
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            c.request("GET", path)
            r = c.getresponse()
            answer = r.status, r.read()
            c.close()
            return answer

        for p in (direct, port):
            self.assertEqual([get(p), get(p, "/dir/part.txt"), get(p, "/.preload")[0], get(p, "/dir/")[0]], [(200, b"42 part"), (200, b"part"), 404, 404])
        make(43)
        self.reload()
        self.assertEqual(get(port), (200, b"43 part"))

    def test_mistakes(self):
        for text, what in (('app = "cosockd.lua"', r"app \S+/cosockd.lua: no ZIP file"),
                           ('app = "nowhere"', r'app "\S+/nowhere" is no folder'), ("app = 5", "app must be the name of a folder"),
                           ("liste = 5", "has no script")):
            path = self.config(f'service "www" {{ {text}, listen = "127.0.0.1:1" }}\n')
            run = subprocess.run([harness.COSOCKD, "-t", "-c", path], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 78)
            self.assertRegex(run.stderr, what)
        run = subprocess.run([harness.COSOCKD, "--app", f"{self.directory}/nowhere"], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 78)
        self.assertRegex(run.stderr, r"app \S+/nowhere: no such file or directory")
        os.mkdir(f"{self.directory}/pages")
        self.write("pages/.preload", "\nlocal x = = 1")
        path = self.config('service "www" { app = "pages", listen = "127.0.0.1:1" }\n')
        run = subprocess.run([harness.COSOCKD, "-t", "-c", path], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 78)
        self.assertRegex(run.stderr, r"\.preload:2: unexpected symbol")


if __name__ == "__main__":
    harness.main()
