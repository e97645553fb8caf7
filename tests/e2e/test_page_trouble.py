"""Peers that misbehave, on the page host: too slow, never ending, too many at once, gone in the middle. Each gets what is due to it,
memory stays bounded, and others are served meanwhile."""

import contextlib
import selectors
import socket
import time

import harness

PAGES = {
    "index.html": "hello\n",
    "all.lsp": """<?lsp
      local size = 0
      for data, err in function() return request:piece() end do size = size + #data end
      trace("read", size, response:valid())
      print(size)
    ?>""",
    "form.lsp": """<?lsp
      local ok, err = request:multipart {filedata = function(data) app.got = (app.got or 0) + #data end}
      trace("form", ok, err)
    ?>""",
    "query.lsp": "<?lsp print(request:data 'x') ?>",
    "unread.lsp": "<?lsp print 'not read' ?>",
}
IDLE = 3000  # connections; 10,000 cost the same each


class Trouble(harness.Case):
    def setUp(self, extra=""):
        super().setUp()
        self.write_app(PAGES)
        self.port = harness.free_port()
        self.daemon = self.service(f'service "www" {{ app = "www", listen = "127.0.0.1:{self.port}", {extra} }}\n', [self.port])

    def get(self, path="/"):
        with self.connect(self.port) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return harness.read_all(s)

    def check_served(self):
        self.assertTrue(self.get().endswith(b"\r\n\r\nhello\n"))

    def until_answered(self, s, pieces):
        """Sends pieces until something comes back or the connection ends; (bytes sent, what came)."""
        sent = 0
        s.setblocking(False)
        select = selectors.DefaultSelector()
        select.register(s, selectors.EVENT_READ | selectors.EVENT_WRITE)
        for piece in pieces:
            while piece:
                events = select.select(60 * harness.SLOW)
                self.assertTrue(events, "neither read nor answered")
                if events[0][1] & selectors.EVENT_READ:
                    s.setblocking(True)
                    with contextlib.suppress(ConnectionError):
                        return sent, harness.read_all(s)
                    return sent, b""
                with contextlib.suppress(BlockingIOError, ConnectionError):  # the answer may come, or the end, since the look
                    n = s.send(piece)
                    sent, piece = sent + n, piece[n:]
        self.fail(f"not answered after {sent} bytes")


class DripTest(Trouble):
    def setUp(self, extra='head_timeout = "2s"'):
        super().setUp(extra)

    def test_a_head_that_drips(self):
        def drops():
            for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 5000:
                time.sleep(0.02)  # the limit is for the whole head, not for each byte
                yield bytes([byte])

        with self.connect(self.port) as s:
            _, answer = self.until_answered(s, drops())
            self.assertIn(b"HTTP/1.1 408 Request Timeout\r\n", answer)
        self.check_served()


class TroubleTest(Trouble):
    def test_a_head_without_end(self):
        for piece, status in ((b"A: " + b"b" * 1000 + b"\r\n", b"431"), (b"a" * 1000, b"431"), (b"A: b\r\n", b"431")):
            with self.connect(self.port) as s:
                s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
                sent, answer = self.until_answered(s, (piece for _ in range(100000)))
                if answer:  # it may be lost when more is under way than is read
                    self.assertEqual(answer[9:12], status)
                self.assertLess(sent, 16 << 20)
        with self.connect(self.port) as s:
            _, answer = self.until_answered(s, (b"a" * 100 for _ in range(100000)))
            self.assertIn(answer[9:12], (b"414", b"400", b""))
        self.check_served()

    def test_a_body_without_end(self):
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        before = self.daemon.rss()
        for path, kind, status in (("/unread.lsp", "text/plain", b"200"), ("/", "text/plain", b"405"), ("/query.lsp", "application/x-www-form-urlencoded", b"413")):
            with self.connect(self.port) as s:
                s.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
                sent, answer = self.until_answered(s, (chunk for _ in range(4000)))
                if answer:
                    self.assertEqual(answer[9:12], status, path)
                self.assertLess(sent, 64 << 20)
        if not harness.SANITIZER:
            self.assertLess(self.daemon.rss() - before, 24 << 20)
        self.check_served()

    def test_a_flood_of_requests_and_nobody_reads(self):
        one = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        before = self.daemon.rss()
        with self.connect(self.port, timeout=120 * harness.SLOW) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            s.setblocking(False)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while sent < 64 << 20:
                    sent += s.send(one * 1000)
            self.check_served()
            if not harness.SANITIZER:
                self.assertLess(self.daemon.rss() - before, 24 << 20)
            s.setblocking(True)
            s.settimeout(120 * harness.SLOW)
            s.shutdown(socket.SHUT_WR)
            answers = harness.read_all(s)
            self.assertEqual(answers.count(b"\r\n\r\nhello\n"), sent // len(one), "each is answered, in the end")

    def test_a_client_that_goes_in_the_middle(self):
        form = b'--XyZ\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + b"x" * 100000
        head = "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=XyZ\r\nContent-Length: 1000000\r\n\r\n"
        for end in (harness.reset, socket.socket.close):
            for path, log in (("/form.lsp", "form\tnil\t"), ("/all.lsp", "read\t")):
                seen = len(self.daemon.log().split(log)) - 1
                s = self.connect(self.port)
                s.sendall((head % path).encode() + form)
                end(s)
                self.daemon.wait_log(log, count=seen + 1)
        with self.connect(self.port) as s:  # and while it is sent something
            self.write("www/big", harness.noise(16 << 20))
            s.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            s.recv(1000)
            harness.reset(s)
        harness.until(lambda: self.status()["connections"] == 0, 10, lambda: f"their ends: {self.status()}")
        self.check_served()

    def test_slow_readers(self):
        """Fifty clients that ask for a big file and do not read it cost what is under way, not the file."""
        self.write("www/big", harness.noise(8 << 20))
        before = self.daemon.rss()
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                s = stack.enter_context(self.connect(self.port))
                s.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertIn(b"200 OK", s.recv(100))
            self.check_served()
            if not harness.SANITIZER:
                self.assertLess(self.daemon.rss() - before, 48 << 20)

    def test_idle_connections(self):
        count = IDLE if harness.NOFILE > 2 * IDLE + 100 and not harness.SANITIZER else 300
        soft = harness.resource.getrlimit(harness.resource.RLIMIT_NOFILE)
        harness.resource.setrlimit(harness.resource.RLIMIT_NOFILE, (min(soft[1], count + 500), soft[1]))
        self.addCleanup(harness.resource.setrlimit, harness.resource.RLIMIT_NOFILE, soft)
        with contextlib.ExitStack() as stack:
            def more(n):
                for _ in range(n):
                    s = stack.enter_context(self.connect(self.port))
                    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    self.assertIn(b"200 OK", s.recv(1000))

            more(count // 3)
            before = self.daemon.rss()
            more(count - count // 3)
            per = (self.daemon.rss() - before) / (count - count // 3)
            self.check_served()
            if not harness.SANITIZER:
                self.assertLess(per, 16384, "bytes per idle connection")
        harness.until(lambda: self.status()["connections"] == 0, 10, "their ends")


if __name__ == "__main__":
    harness.main()
