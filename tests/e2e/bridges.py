"""What holds for each end of a bridge between WebSockets and TCP, however it is made: peers that break the rules, that send a byte at a
time or a head without end, and readers that stop. Each ends with what RFC 6455 says, in bounded memory, and leaves nothing behind."""

import contextlib
import itertools
import select
import socket
import struct
import threading
import time

import harness
import ws

MASK = b"\1\2\3\4"


def broken_frames(masked):
    """[(bytes, code of the Close that answers them)]; masked: as this peer's frames should be."""
    mask, bit = (MASK, 0x80) if masked else (None, 0)
    return [(ws.frame(b"x", mask=None if masked else MASK), 1002), (ws.frame(b"x", op=3, mask=mask), 1002),
            (ws.frame(b"x", rsv=4, mask=mask), 1002), (ws.frame(b"x", op=ws.CONTINUATION, mask=mask), 1002),
            (ws.frame(b"x" * 126, op=ws.PING, mask=mask), 1002), (ws.frame(b"x", op=ws.PING, fin=False, mask=mask), 1002),
            (ws.frame(b"x", op=ws.CLOSE, mask=mask), 1002), (struct.pack(">BBQ", 0x82, bit | 127, 1 << 63) + (mask or b""), 1002),
            (struct.pack(">BBQ", 0x82, bit | 127, 1 << 40) + (mask or b""), 1009)]


class Pushing:
    """Sends a block as fast as it is taken, until the connection's end. sent: the bytes so far."""

    def __init__(self, block):
        self.block, self.sent = block, 0

    def __call__(self, sock):
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(self.block)
                self.sent += len(self.block)

    def start(self, sock):
        """In a thread, which ends when the socket is shut down."""
        threading.Thread(target=self, args=(sock,), daemon=True).start()

    def stalled(self):
        before = self.sent
        time.sleep(0.3)
        return before > 0 and self.sent == before


class Bridge:
    """Either end. The daemon is self.daemon."""

    def assert_bounded(self, stalled, before, bytes_):
        harness.until(stalled, 60, "back-pressure")
        if not harness.SANITIZER:
            self.assertLess(self.daemon.rss() - before, bytes_, "memory grew")

    def assert_gone(self, *servers):
        harness.until(lambda: not any(server.connections for server in servers), 20, "the end of what the other side had")


class ServerEnd(Bridge):
    """The end that takes WebSockets. start(origin[, head_ms]) starts it in front of a server of harness.py and returns its port; open(port)
    is a peer."""

    refusal = b" 431 "  # of a head that is too long, or nothing

    def test_frames_that_break_the_rules(self):
        origin = self.server(harness.echo)
        port = self.start(origin)
        for data, code in broken_frames(True):
            with self.subTest(data=data[:20]):
                peer = self.open(port)
                peer.send(b"before")
                self.assertEqual(peer.message()[1], b"before")
                peer.raw(data)
                self.assertEqual(peer.closed(), code)
        self.assert_gone(origin)

    def test_a_close_within_a_fragmented_message(self):
        got = []
        port = self.start(self.server(lambda c: got.append(harness.read_all(c))))
        peer = self.open(port)
        peer.send(b"half a ", ws.TEXT, fin=False)
        peer.close(1000)
        self.assertEqual(peer.closed(), 1000)
        harness.until(lambda: got == [b"half a "], 10, "what had come")

    def test_a_byte_at_a_time(self):
        peer = self.open(self.start(self.server(harness.echo)))
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in ws.frame(b"slow but sure", mask=MASK) + ws.frame(b"x" * 200, mask=b"abcd"):
            peer.raw(bytes([byte]))
            time.sleep(0.001)
        self.assertEqual(peer.bytes(213), b"slow but sure" + b"x" * 200)

    def test_a_head_that_does_not_end(self):
        with self.connect(self.start(self.server(harness.echo), 300)) as s:
            s.sendall(b"GET / HTTP/1.1\r\n")
            self.assertEqual(harness.read_all(s), b"")

    def test_a_head_that_comes_too_slowly(self):
        """Each byte in time, all of them not."""
        head = itertools.chain(b"GET / HTTP/1.1\r\nX: ", itertools.repeat(ord("x"), 7000))
        with self.connect(self.start(self.server(harness.echo), 500)) as s:
            try:
                while not select.select([s], [], [], 0.05)[0]:
                    s.sendall(bytes([next(head)]))
                self.assertEqual(s.recv(100), b"")
            except (BrokenPipeError, ConnectionResetError):
                pass

    def test_a_head_without_end(self):
        port = self.start(self.server(harness.echo))
        for line in (b"X-Field: " + b"x" * 90 + b"\r\n", b"x" * 101):
            with self.connect(port) as s:
                s.sendall(b"GET / HTTP/1.1\r\n")
                sent = 0
                try:
                    while not select.select([s], [], [], 0)[0] and sent < 16 << 20:
                        sent += s.send(line)
                    self.assertIn(self.refusal, s.recv(100))
                except (BrokenPipeError, ConnectionResetError):
                    pass
                self.assertLess(sent, 16 << 20)

    def test_a_client_that_stops_reading(self):
        source = Pushing(harness.noise(1 << 16))
        origin = self.server(source)
        port = self.start(origin)
        before = self.daemon.rss_settled()
        peers = [self.open(port) for _ in range(10)]
        self.assert_bounded(source.stalled, before, 16 << 20)
        self.assertTrue(peers[0].bytes(1 << 20).startswith(source.block * 16))
        for peer in peers:
            peer.end()
        self.assert_gone(origin)

    def test_a_target_that_stops_reading(self):
        hold = threading.Event()
        self.addCleanup(hold.set)
        port = self.start(self.server(lambda c: hold.wait(60 * harness.PATIENCE)))
        before = self.daemon.rss_settled()
        source, peer = Pushing(ws.frame(bytes(60000), mask=MASK)), self.open(port)
        source.start(peer.sock)
        self.assert_bounded(source.stalled, before, 4 << 20)
        self.assertLess(source.sent, 64 << 20)
        peer.sock.shutdown(socket.SHUT_RDWR)


class ClientEnd(Bridge):
    """The end that makes WebSockets of connections. begin(gate[, handshake_ms]) starts it in front of a server of harness.py, returns its port;
    gate_of(handler) is such a server's handler: handler(peer) behind the handshake."""

    def gate_of(self, handler):
        def gate(c):
            handler(ws.accept(c, self.answer)[0])

        return gate

    def assert_ended(self, port):
        with contextlib.suppress(ConnectionResetError), self.connect(port) as s:
            self.assertEqual(harness.read_all(s), b"")

    def test_frames_that_break_the_rules(self):
        cases, codes = broken_frames(False), []
        todo = iter(cases)

        def gate(peer):
            peer.raw(next(todo)[0])
            codes.append(peer.closed())

        port = self.begin(self.server(self.gate_of(gate)))
        for data, code in cases:
            with self.subTest(data=data[:20]):
                self.assert_ended(port)
                harness.until(lambda: codes, 10, "the Close")
                self.assertEqual(codes.pop(), code)

    def test_a_close_within_a_fragmented_message(self):
        codes = []

        def gate(peer):
            peer.send(b"half a ", ws.TEXT, fin=False)
            peer.close(1000)
            codes.append(peer.closed())

        with self.connect(self.begin(self.server(self.gate_of(gate)))) as s:
            self.assertEqual(harness.read_all(s), b"half a ")
        harness.until(lambda: codes == [1000], 10, "the Close")

    def test_a_byte_at_a_time(self):
        def gate(peer):
            peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in ws.frame(b"slow but sure") + ws.frame(b"x" * 200):
                peer.raw(bytes([byte]))
                time.sleep(0.001)
            self.assertEqual(peer.bytes(2), b"ok")
            peer.close()
            peer.closed()

        with self.connect(self.begin(self.server(self.gate_of(gate)))) as s:
            self.assertEqual(harness.read_exactly(s, 213), b"slow but sure" + b"x" * 200)
            s.sendall(b"ok")
            self.assertEqual(harness.read_all(s), b"")

    def test_a_handshake_that_is_none(self):
        """Silent, one byte at a time, a reset, something else, a head without end."""
        def trickle(c):
            for byte in b"HTTP/1.1 101 Switching Protocols\r\n" + b"x" * 10000:
                if select.select([c], [], [], 0.02)[0] and not c.recv(65536):
                    break
                c.send(bytes([byte]))

        def endless(c):
            c.sendall(b"HTTP/1.1 101 Switching Protocols\r\n")
            for _ in range(1 << 14):
                c.sendall(b"X-Field: x\r\n" * 100)
            raise AssertionError("all of it was taken")

        gates = [harness.read_all, trickle, harness.reset, lambda c: c.sendall(b"SSH-2.0\r\n"), endless]
        todo = iter(gates)
        server = self.server(lambda c: next(todo)(c))
        port = self.begin(server, 1000)
        for gate in gates:
            with self.subTest(gate=gate):
                self.assert_ended(port)
                self.assert_gone(server)

    def test_a_client_that_stops_reading(self):
        source = Pushing(ws.frame(bytes(60000)))
        gate = self.server(self.gate_of(lambda peer: source(peer.sock)))
        port = self.begin(gate)
        before = self.daemon.rss_settled()
        s = self.connect(port)
        self.assert_bounded(source.stalled, before, 4 << 20)
        self.assertLess(source.sent, 64 << 20)
        self.assertEqual(harness.read_exactly(s, 1 << 20), bytes(1 << 20))
        harness.reset(s)
        self.assert_gone(gate)

    def test_a_gate_that_stops_reading(self):
        hold = threading.Event()
        self.addCleanup(hold.set)
        port = self.begin(self.server(self.gate_of(lambda peer: hold.wait(60 * harness.PATIENCE))))
        before = self.daemon.rss_settled()
        source, s = Pushing(bytes(60000)), self.connect(port)
        source.start(s)
        self.assert_bounded(source.stalled, before, 4 << 20)
        self.assertLess(source.sent, 64 << 20)
        s.shutdown(socket.SHUT_RDWR)
