"""ba.create.upload: files by PUT and by forms, whole or not at all, also when clients stop, lie or are too many."""

import http.client
import os
import signal
import socket
import zipfile

import harness
import web

PRELOAD = """
local files = ba.mkio(io, ".files")
assert(not pcall(ba.create.upload, "files", 1) and not pcall(ba.create.upload, files, 0) and not pcall(ba.create.upload, files))

local function start(_ENV, upload)
  trace("start", upload:name(), upload:multipart(), upload:session())
  if upload:name():find "%.exe$" then
    local response = upload:response()
    response:setstatus(403)
    response:write "not that"
    response:close()
  end
end

local function complete(_ENV, upload)
  local name, response = upload:name(), upload:response()
  assert(type(ba.clock()) == "number", "globals are there")
  ba.thread.run(function()
    response:setheader("X-Name", name)
    response:write("got ", name, " from ", who)
    response:close()
  end)
end

local function failed(_ENV, upload, err, more)
  trace("failed", upload:name(), err, more)
  local response = upload:response()
  response:write("failed: ", err)
  if who ~= "leave it" then response:close() end
end

for name, functions in pairs {up = {start, complete, failed}, plain = {}, raising = {nil, function() error "on purpose" end}} do
  local uploader = ba.create.upload(files, 2)
  local place = ba.create.dir(name)
  place:setfunc(function(_ENV, path)
    uploader(request, path, functions[1], functions[2], functions[3], {who = request:header "x-who"})
    trace "it has returned"
  end)
  dir:insert(place)
end
"""

PAGES = {
    ".preload": PRELOAD,
    "index.html": "here",
    "unzip.lsp": """<?lsp
      local zip = assert(ba.mkio(ba.mkio(io, ".files"), "all.zip"))
      local place = ba.create.resrdr("inside", zip)
      place:lspfilter(app)
      dir:insert(place)
      for name, isdir, mtime, size in zip:files("/", true) do print(name, isdir, os.date("%Y-%m-%d", mtime), size) end
    ?>""",
    "wrong.lsp": "<?lsp local u = ba.create.upload(io, 1) print(pcall(u, {}, '')) print(pcall(u, request)) print(pcall(u, request, '', 1)) ?>",
}


def form(*files, boundary="XyZ"):
    """The body of a form: of each file its name and content, or a field's when the name is None."""
    parts = []
    for name, data in files:
        head = 'name="field"' if name is None else f'name="f"; filename="{name}"'
        parts.append(f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


FORM = {"Content-Type": "multipart/form-data; boundary=XyZ", "X-Who": "a form"}
PUT = {"X-Who": "a put"}


class UploadTest(web.Client):
    def setUp(self):
        super().setUp()
        os.makedirs(f"{self.directory}/www/.files/sub")
        self.write_app(PAGES)
        self.files = f"{self.directory}/www/.files"
        self.port = harness.free_port()
        self.daemon = self.service(f'stop_timeout = "1s"\nservice "www" {{ app = "www", listen = "127.0.0.1:{self.port}" }}\n', [self.port])

    def names(self):
        return [os.path.relpath(os.path.join(folder, name), self.files) for folder, _, names in os.walk(self.files) for name in names]

    def there(self):
        """The content of every file, by its name."""
        found = {}
        for name in self.names():
            with open(os.path.join(self.files, name), "rb") as f:
                found[name] = f.read()
        return found

    def begin(self, path="/up/half.bin", announced=1000000, data=b"half of it", head=""):
        """A connection with an upload that has begun."""
        s = self.connect(self.port)
        s.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {announced}\r\n{head}\r\n".encode() + data)
        return s

    def wait_begun(self, count=1):
        harness.until(lambda: sum(name.startswith(".upload-") for name in self.names()) == count, what="files that have begun")

    def wait_clean(self):
        harness.until(lambda: not any(".upload-" in name for name in self.names()), what="nothing half left")

    def test_put(self):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * harness.PATIENCE)
        big = harness.noise(3 << 20)
        for path, body, options in (("a.bin", b"small", {}), ("sub/b.bin", big, {}), ("empty", b"", {}), ("a.bin", b"again", {}),
                                    ("c.bin", iter([big[:70000], big[70000:]]), {"encode_chunked": True})):
            c.request("PUT", f"/up/{path}", body, PUT, **options)
            r = c.getresponse()
            self.assertEqual((r.status, r.headers["X-Name"], r.read()), (200, path, f"got {path} from a put".encode()))
        c.request("GET", "/")
        self.assertEqual(c.getresponse().read(), b"here", "the connection goes on")
        c.close()
        self.assertEqual(self.there(), {"a.bin": b"again", "sub/b.bin": big, "empty": b"", "c.bin": big})
        self.assertNotIn("it has returned", self.daemon.log())
        self.assertNotIn("start\t", self.daemon.log())

    def test_a_form(self):
        data = harness.noise(1 << 20)
        body = form(("one.bin", data), (None, b"a field"), ("C:\\dir\\two.txt", b"2"), ("../../three.txt", b"--XyY\r\n"))
        status, headers, answer = self.get("/up/sub", method="POST", body=body, headers=FORM)
        self.assertEqual((status, headers["X-Name"], answer), (200, "sub/three.txt", b"got sub/three.txt from a form"))
        self.assertEqual(self.there(), {"sub/one.bin": data, "sub/two.txt": b"2", "sub/three.txt": b"--XyY\r\n"})
        self.daemon.wait_log("start\tsub/two.txt\ttrue")
        self.assertEqual(self.get("/up/", method="POST", body=form(("top", b"t")), headers=FORM)[0], 200)
        self.assertIn("top", self.there())

    def test_what_is_refused(self):
        for body, error in ((form((".preload", b"x")), "invalidname"), (form(("", b"")), "invalidname"), (form((None, b"x")), "invalidname"),
                            (form(("a/..", b"x")), "invalidname"), (b"no form", "badrequest"), (form(("cut", b"x"))[:-6], "badrequest"),
                            (form(("a" * 300, b"x")), "invalidname"), (form(("sub", b"a folder")), "noaccess")):
            status, _, answer = self.get("/up/", method="POST", body=body, headers=FORM)
            self.assertEqual((status, answer), (200, b"failed: " + error.encode()), body)
        status, _, answer = self.get("/up/", method="POST", body=form(("good", b"g"), ("bad.exe", b"b"), ("never", b"n")), headers=FORM)
        self.assertEqual((status, answer), (403, b"not that"))
        for path, error in (("nowhere/a", "notfound"), (".preload", "invalidname"), (".lua/a.lua", "invalidname"), ("sub/.%2e/.x", "invalidname"),
                            ("sub", "noaccess"), ("a" * 300, "invalidname"), ("", "invalidname")):
            status, _, answer = self.get(f"/up/{path}", method="PUT", body=b"x", headers=PUT)
            self.assertEqual((status, answer), (200, b"failed: " + error.encode()), path)
        self.assertEqual(self.get("/up/x", method="POST", body=b"x", headers={"Content-Type": "text/plain"})[0], 415)
        status, headers, _ = self.get("/up/x")
        self.assertEqual((status, headers["Allow"]), (405, "PUT, POST"))
        self.assertEqual(self.there(), {"good": b"g"})
        self.assertEqual(self.text("/wrong.lsp").count("false\t"), 3)

    def test_an_answer_that_is_left_to_the_collector(self):
        self.assertEqual(self.get("/up/nowhere/a", method="PUT", body=b"x", headers={"X-Who": "leave it"})[::2], (200, b"failed: notfound"))

    def test_without_functions(self):
        self.assertEqual(self.get("/plain/a", method="PUT", body=b"a")[0], 204)
        self.assertEqual(self.get("/plain/", method="POST", body=form(("b", b"b")), headers=FORM)[0], 204)
        self.assertEqual(self.get("/plain/nowhere/a", method="PUT", body=b"x")[0], 404)
        self.assertEqual(self.get("/plain/", method="POST", body=b"x", headers=FORM)[0], 400)
        self.assertEqual(self.there(), {"a": b"a", "b": b"b"})

    def test_a_function_that_raises(self):
        self.assertEqual(self.get("/raising/a", method="PUT", body=b"a")[0], 500)
        self.daemon.expect(r"on purpose")
        for _ in range(3):  # nothing is counted that is over
            self.assertEqual(self.get("/raising/a", method="PUT", body=b"a")[0], 500)

    def test_clients_that_stop(self):
        self.get("/up/half.bin", method="PUT", body=b"from before", headers=PUT)
        body = form(("half.bin", b"x" * 100000))
        for end in (socket.socket.close, harness.reset):
            s = self.begin()
            self.wait_begun()
            end(s)
            self.wait_clean()
            s = self.connect(self.port)
            s.sendall((f"POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['Content-Type']}\r\n"
                       f"Content-Length: {len(body)}\r\n\r\n").encode() + body[:50000])
            self.wait_begun()
            end(s)
            self.wait_clean()
        self.daemon.wait_log("failed\thalf.bin", count=4)
        self.assertEqual(self.there(), {"half.bin": b"from before"})
        # A chunk that is none ends it as well, with an answer.
        with self.connect(self.port) as s:
            s.sendall(b"PUT /up/c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno chunk\r\n")
            self.assertIn(b"failed: ", harness.read_all(s))
        self.wait_clean()

    def test_too_many(self):
        slow = [self.begin(f"/up/slow{n}") for n in range(2)]
        self.wait_begun(2)
        status, _, _ = self.get("/up/third", method="PUT", body=b"x", headers=PUT)
        self.assertEqual(status, 503)
        for s in slow:
            s.close()
        self.wait_clean()
        harness.until(lambda: self.get("/up/third", method="PUT", body=b"x", headers=PUT)[0] == 200, what="room again")
        self.assertEqual(self.there(), {"third": b"x"})

    def test_a_stop_in_the_middle(self):
        s = self.begin()
        self.wait_begun()
        self.daemon.signal(signal.SIGTERM)
        self.daemon.wait_exit()
        s.close()
        self.assertNotIn("half.bin", self.names())

    def test_waiting_to_be_told(self):
        with self.begin("/up/asked", 2, b"", "Expect: 100-continue\r\nX-Who: him\r\nConnection: close\r\n") as s:
            self.assertEqual(harness.read_exactly(s, 25), b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(b"ok")
            self.assertIn(b"got asked from him", harness.read_all(s))
        self.assertEqual(self.there(), {"asked": b"ok"})

    def test_what_is_in_a_zip_file(self):
        data = harness.noise(1 << 20) + b"text " * 100000
        with zipfile.ZipFile(f"{self.directory}/all.zip", "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr(zipfile.ZipInfo("a.txt", (2024, 2, 29, 1, 2, 4)), b"text of a")
            z.writestr("dir/page.lsp", "a page: <?lsp= 1 + 1 ?>")
            z.writestr("dir/stored.bin", data, zipfile.ZIP_STORED)
            with z.open("big.bin", "w") as f:  # sizes behind the data
                f.write(data)
        with open(f"{self.directory}/all.zip", "rb") as f:
            self.assertEqual(self.get("/up/all.zip", method="PUT", body=f.read(), headers=PUT)[0], 200)
        listed = self.text("/unzip.lsp").split("\n")
        self.assertEqual((listed[0], listed[1].split("\t")[:2], listed[2].split("\t")[3]),
                         ("a.txt\tfalse\t2024-02-29\t9", ["dir", "true"], str(len(data))))
        self.assertEqual(self.text("/inside/a.txt"), "text of a")
        self.assertEqual(self.text("/inside/dir/page.lsp"), "a page: 2")
        self.assertEqual(self.get("/inside/big.bin")[2], data)
        part = {"Range": "bytes=1048570-1048580"}
        status, headers, body = self.get("/inside/dir/stored.bin", headers=part)
        self.assertEqual((status, headers["Accept-Ranges"], body), (206, "bytes", data[1048570:1048581]))
        status, headers, body = self.get("/inside/big.bin", headers=part)
        self.assertEqual((status, headers["Accept-Ranges"], len(body)), (200, None, len(data)), "what is in the middle costs what is before")
        self.assertEqual(self.get("/inside/nothing")[0], 404)

    def test_a_page_that_cannot_be_read(self):
        """That is an error, and no empty page."""
        name, text = "broken.lsp", "a page " * 100
        with zipfile.ZipFile(f"{self.directory}/all.zip", "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr(name, text)
            size = z.getinfo(name).compress_size
        with open(f"{self.directory}/all.zip", "rb") as f:
            data = f.read()
        at = 30 + len(name)
        self.assertEqual(self.get("/up/all.zip", method="PUT", body=data[:at] + b"\xff" * size + data[at + size:], headers=PUT)[0], 200)
        self.text("/unzip.lsp")
        self.daemon.expect("page failed: GET /inside/broken.lsp .*ioerror")
        self.assertEqual(self.get("/inside/broken.lsp")[0], 500)

    def test_it_costs_no_memory(self):
        if harness.SANITIZER:
            self.skipTest("memory of sanitizers")
        before = self.daemon.rss()
        status, _, _ = self.get("/up/big", method="PUT", body=iter([harness.noise(1 << 20)] * 32), headers=PUT)
        self.assertEqual((status, os.path.getsize(f"{self.files}/big")), (200, 32 << 20))
        self.assertLess(self.daemon.rss() - before, 16 << 20)


if __name__ == "__main__":
    harness.main()
