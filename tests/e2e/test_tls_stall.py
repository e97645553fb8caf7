"""TLS clients that stop in the middle of the handshake: at each byte, and thousands at once. They cost their deadline and
little memory, and established connections do not notice them. Many that do not stop leave nothing behind.

COSOCKD_HALF_OPEN=10000 and COSOCKD_HANDSHAKES=50000 are the numbers of the full test; CI takes fewer."""

import os
import socket
import ssl
import time

import harness
import pki

# words: port, certificate, key, ms of the handshake
SERVER = pki.ECHO + """
serve(arg[1], ba.create.sharkssl(nil, {server = true, timeout = tonumber(arg[4])}))
"""


class Stall(harness.Case):
    def setUp(self):
        super().setUp()
        self.need("openssl")
        self.cert, self.key = pki.Pki(os.path.join(self.directory, "pki")).issue("localhost")
        self.port = harness.free_port()

    def serve(self, timeout_ms):
        return self.cosockd(SERVER, [self.port, self.cert, self.key, timeout_ms], [self.port])

    def begin(self, version):
        """A handshake but for the client's last flight: the socket, the first flight, the last one."""
        context = pki.anybody()
        context.minimum_version = context.maximum_version = version
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        s, flights = self.connect(self.port), []
        while True:
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                pass
            data = outgoing.read()
            flights += [data] if data else []
            if len(flights) == 2:
                return s, *flights
            s.sendall(data)
            answer = s.recv(65536)
            self.assertTrue(answer, "the daemon gave up")
            incoming.write(answer)

    def tls(self):
        s = pki.anybody().wrap_socket(self.connect(self.port), server_hostname="localhost")
        self.addCleanup(s.close)
        return s

    def test_at_each_byte(self):
        self.serve(6000 * harness.SLOW)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            s, hello, last = self.begin(version)
            stalled = [s]
            for n in range(0, len(hello) + 1):
                s = self.connect(self.port)
                s.sendall(hello[:n])
                stalled.append(s)
            for n in range(1, len(last)):
                s, _, flight = self.begin(version)
                s.sendall(flight[:n])
                stalled.append(s)
            for s in stalled:
                harness.read_all(s)  # until the daemon gives up
                s.close()
        harness.until(lambda: harness.open_connections(self.port) == 0, 10, "the end of all of them")
        with self.tls() as s:
            s.sendall(b"still here")
            self.assertEqual(s.recv(100), b"still here")

    def test_half_open_ones_beside_an_established_one(self):
        d = self.serve(60000)
        count = int(os.environ.get("COSOCKD_HALF_OPEN", min(2000, harness.NOFILE // 4) // (4 if harness.SANITIZER else 1)))
        with self.tls() as established:
            hello = self.begin(ssl.TLSVersion.TLSv1_3)[1]
            before = d.rss_settled()
            half_open, worst = [], 0
            for i in range(count):
                s = socket.create_connection(("127.0.0.1", self.port), 20)
                s.sendall(hello)
                half_open.append(s)
                if i % 20 == 0:
                    start = time.monotonic()
                    established.sendall(b"x")
                    self.assertEqual(established.recv(10), b"x")
                    worst = max(worst, time.monotonic() - start)
            # The machine may be busy; a turn that took all handshakes at once would need much longer.
            self.assertLess(worst, 2 * harness.SLOW)
            if not harness.SANITIZER:
                self.assertLess(d.rss_settled() - before, count * 64 * 1024)
            for s in half_open:
                harness.reset(s)
            harness.until(lambda: harness.open_connections(self.port) == 1, 20, "the end of the half-open ones")
            established.sendall(b"y")
            self.assertEqual(established.recv(10), b"y")

    def test_handshakes_leave_nothing_behind(self):
        d = self.serve(10000 * harness.SLOW)
        count = int(os.environ.get("COSOCKD_HANDSHAKES", 1000 // harness.SLOW))
        context, session = pki.anybody(), None

        def shake(times):
            nonlocal session
            for i in range(times):  # each fourth is resumed, each tenth has nothing to say
                with context.wrap_socket(self.connect(self.port), server_hostname="localhost",
                                         session=session if i % 4 == 0 else None) as s:
                    if i % 10:
                        s.sendall(b"x")
                        self.assertEqual(s.recv(10), b"x")
                    session = s.session

        shake(count // 2)
        before = d.rss_settled()
        shake(count)
        if not harness.SANITIZER:
            self.assertLess(d.rss_settled() - before, 1 << 20)


if __name__ == "__main__":
    harness.main()
