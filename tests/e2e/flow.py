"""What any tunnel does with slow readers and resets; test_flow_*.py say which tunnels there are."""

import socket
import time

import harness


class Source:
    """An origin that pushes a stream as fast as the proxy takes it."""

    def __init__(self, total):
        self.total = total
        self.block = harness.noise(1 << 16)
        self.pushed = {}  # socket -> bytes

    def __call__(self, connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        sent = 0
        while sent < self.total:
            sent += connection.send(self.block[sent % len(self.block):])
            self.pushed[connection] = sent

    def stalled(self):
        """True when nothing moved for half a second."""
        before = sum(self.pushed.values())
        time.sleep(0.5)
        return before > 0 and sum(self.pushed.values()) == before


class Flow:
    """Both ways of making a tunnel are tested alike."""

    def tunnel(self, origin_port):
        raise NotImplementedError

    def stalled_reader(self, clients):
        source = Source(256 << 20)
        origin = self.server(source)
        daemon, port = self.tunnel(origin.port)
        before = daemon.rss_settled()
        sockets = []
        for _ in range(clients):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            s.settimeout(20 * harness.SLOW)
            s.connect(("127.0.0.1", port))
            self.addCleanup(s.close)
            sockets.append(s)
        harness.until(lambda: len(source.pushed) == clients and source.stalled(), 60, "back-pressure")
        self.assertLess(max(source.pushed.values()), 48 << 20, "the proxy swallowed what nobody reads")
        if not harness.SANITIZER:
            self.assertLess(daemon.rss() - before, (6 << 20) + clients * (1 << 20), "memory grew")

        def rests():
            cpu = daemon.cpu_seconds()
            return source.stalled() and daemon.cpu_seconds() - cpu < 0.1 * harness.SLOW

        harness.until(rests, 20, "a daemon that rests")
        s = sockets[0]
        count = 24 << 20
        got = harness.read_exactly(s, count)
        wanted = source.block * (count // len(source.block))
        self.assertEqual(harness.digest(got), harness.digest(wanted), "bytes changed")
        for s in sockets:
            harness.reset(s)
        harness.until(lambda: not origin.connections, 20, "the origin's connections ended")

    def test_an_abandoned_origin_is_not_drained_for_long(self):
        """The client has gone: what the origin goes on pushing is of no use to anybody."""
        source = Source(1 << 40)
        origin = self.server(source)
        daemon, port = self.tunnel(origin.port)
        with self.connect(port) as s:
            harness.read_exactly(s, 1 << 20)
            harness.reset(s)
        harness.until(lambda: not origin.connections, 20, "the origin's connection ended")
        self.assertLess(sum(source.pushed.values()), 64 << 20)
        self.assertTrue(daemon.alive())

    def test_a_stalled_reader_costs_no_memory(self):
        self.stalled_reader(1)

    def test_many_stalled_readers(self):
        self.stalled_reader(20)

    def test_a_slow_reader_gets_every_byte(self):
        data = harness.noise(3 << 20)
        origin = self.server(lambda c: c.sendall(data))
        _, port = self.tunnel(origin.port)
        with self.connect(port) as s:
            got = b""
            while True:
                part = s.recv(16384)
                if not part:
                    break
                got += part
                time.sleep(0.002)
        self.assertEqual(harness.digest(got), harness.digest(data))

    def test_a_slow_origin_gets_every_byte(self):
        data = harness.noise(3 << 20)
        seen = []

        def slow(connection):
            got = b""
            while len(got) < len(data):
                part = connection.recv(16384)
                if not part:
                    break
                got += part
                time.sleep(0.002)
            seen.append(harness.digest(got))
            connection.sendall(b"done")

        origin = self.server(slow)
        _, port = self.tunnel(origin.port)
        with self.connect(port) as s:
            s.sendall(data)
            self.assertEqual(harness.read_exactly(s, 4), b"done")
        self.assertEqual(seen, [harness.digest(data)])

    def test_write_then_close_delivers_everything(self):
        """The client closes both ways right after its last byte."""
        data = harness.noise(1 << 20)
        seen = []

        def collect(connection):
            seen.append(harness.digest(harness.read_all(connection)))

        origin = self.server(collect)
        _, port = self.tunnel(origin.port)
        for _ in range(20):
            with self.connect(port) as s:
                s.sendall(data)
        harness.until(lambda: len(seen) == 20, 20, "all uploads")
        self.assertEqual(set(seen), {harness.digest(data)})

    def test_client_resets_in_the_middle(self):
        ends = []

        def push(connection):
            try:
                while True:
                    connection.sendall(b"x" * 65536)
            except OSError as e:
                ends.append(e)

        origin = self.server(push)
        daemon, port = self.tunnel(origin.port)
        for _ in range(10):
            s = self.connect(port)
            harness.read_exactly(s, 300000)
            harness.reset(s)
        harness.until(lambda: len(ends) == 10, 10, "the origin noticed every reset")
        self.assertTrue(daemon.alive())

    def test_origin_resets_in_the_middle(self):
        def push_and_reset(connection):
            connection.sendall(b"x" * 300000)
            connection.recv(1)
            harness.reset(connection)

        origin = self.server(push_and_reset)
        daemon, port = self.tunnel(origin.port)
        for _ in range(10):
            with self.connect(port) as s:
                harness.read_exactly(s, 300000)
                s.sendall(b"!")
                self.assertTrue(harness.ended(s))
        self.assertTrue(daemon.alive())
