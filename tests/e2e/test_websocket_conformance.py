"""RFC 6455 case by case, in the classes of the usual conformance suite, against an echo of whole messages: our server with a client
made by hand, and our client with a server made by hand."""

import os
import queue
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib

import harness
import pki
import ws
from ws import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

ECHO = """
local address = require "cosock.address"
local websocket = require "cosock.websocket"
local role, port, certificate, key = ...
local DEFLATE = {none = false, deflate = true, takeover = {takeover = true}}
local OPTIONS = {messages = true, maxsize = 1 << 25, deflate = DEFLATE[os.getenv "DEFLATE" or "none"]}

local function echo(sock)
  while true do
    local data, text = sock:read()
    if not data or not sock:write(data, text) then break end
  end
end

if role == "server" then
  local tls = certificate and require "cosock.tls".server {cert = certificate, key = key} or nil
  address.listen("127.0.0.1:" .. port, function(sock)
    sock:event(function(s)
      local head = ba.http.reader(s, "request"):head(10000)
      if head and websocket.accept(s, head, OPTIONS) then echo(s) end
    end, "s")
  end, {shark = tls})
else
  for _ = 1, 4 do -- a connection waits in each
    ba.thread.run(function()
      while true do
        local sock = ba.socket.connect("127.0.0.1", tonumber(port))
        if not sock then break end
        if websocket.connect(sock, "test", "/", OPTIONS) then echo(sock) end
        sock:close()
      end
    end)
  end
end
"""

SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536, 200000)
HELLO = "Hello-µ@ßöäüàá-UTF-8!!".encode()

VALID_TEXTS = [
    b"", HELLO, "κόσμε".encode(), b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80", b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf",
    b"\xf4\x8f\xbf\xbf", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf0\x9f\xbf\xbf", b"\xef\xbf\xbe", b"\xef\xbf\xbf",
    "\U0001f600 \U0010fffe".encode(),
]
INVALID_TEXTS = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xf7\xbf\xbf\xbf",
    b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf", b"\xf4\x90\x80\x80", b"\x80", b"\xbf", b"\x80\xbf", bytes(range(0x80, 0xc0)),
    b"\xc0 ", b"\xc1\xbf", b"\xe0 ", b"\xf0 ", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf",
    b"\xed\xa0\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80", b"\xfe", b"\xff", b"\xc3", b"\xe2\x82",
    b"\xf0\x9f\x98", b"abc\xff",
]


class Conformance:
    """peer(): a fresh connection's other end."""

    def echoes(self, peer, payload, op):
        got = peer.message()
        self.assertEqual(got[0], op)
        self.assertTrue(got[1] == payload, f"other bytes: {len(got[1])} for {len(payload)}")

    def fails(self, peer, *codes):
        """It ends the connection with one of the codes, and no data before."""
        while True:
            f = peer.frame()
            if f.op == CLOSE:
                break
            self.assertIn(f.op, (PING, PONG), f)
        self.assertIn(struct.unpack(">H", f.payload[:2])[0], codes)
        self.assertEqual(f.masked, not peer.client)
        peer.end()

    def finish(self, peer):
        peer.close(1000)
        self.assertEqual(peer.closed(), 1000)

    def cases(self, values):
        """One value and one connection each."""
        for value in values:
            with self.subTest(value=repr(value)[:60]):
                yield value, self.peer()

    # 1: frames

    def test_1_sizes(self):
        for op in (TEXT, BINARY):
            for size, peer in self.cases(SIZES):
                payload = b"*" * size if op == TEXT else harness.noise(size, size)
                peer.send(payload, op)
                self.echoes(peer, payload, op)
                self.finish(peer)

    def test_1_in_pieces(self):
        payload = harness.noise(65536)
        for chop, peer in self.cases((1, 7, 997, 65000)):
            data = ws.frame(payload if chop > 7 else payload[:700], mask=b"\1\2\3\4" if peer.client else None)
            for i in range(0, len(data), chop):
                peer.raw(data[i:i + chop])
            self.echoes(peer, payload if chop > 7 else payload[:700], BINARY)
            self.finish(peer)

    # 2: pings and pongs

    def test_2_pings(self):
        for payload, peer in self.cases((b"", b"Hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125)):
            peer.send(payload, PING)
            f = peer.frame()
            self.assertEqual((f.op, f.payload, f.fin, f.masked), (PONG, payload, True, not peer.client))
            self.finish(peer)

    def test_2_long_ping(self):
        peer = self.peer()
        peer.send(b"\xfe" * 126, PING)
        self.fails(peer, 1002)

    def test_2_ping_a_byte_at_a_time(self):
        peer = self.peer()
        for byte in ws.frame(b"\xfe" * 125, PING, mask=b"abcd" if peer.client else None):
            peer.raw(bytes([byte]))
        self.assertEqual(peer.frame().payload, b"\xfe" * 125)
        self.finish(peer)

    def test_2_pongs_nobody_asked_for(self):
        peer = self.peer()
        peer.send(b"", PONG)
        peer.send(b"unsolicited", PONG)
        peer.send(b"ping", PING)
        f = peer.frame()
        self.assertEqual((f.op, f.payload), (PONG, b"ping"))
        self.finish(peer)

    def test_2_ten_pings(self):
        peer = self.peer()
        for i in range(10):
            peer.send(b"ping %d" % i, PING)
        for i in range(10):
            f = peer.frame()
            self.assertEqual((f.op, f.payload), (PONG, b"ping %d" % i))
        self.finish(peer)

    # 3: reserved bits

    def test_3_reserved_bits(self):
        for rsv, peer in self.cases(range(1, 8)):
            peer.send(HELLO, TEXT, rsv=rsv)
            self.fails(peer, 1002)
        for op, peer in self.cases((BINARY, PING, CLOSE)):
            peer.send(b"\x03\xe8" if op == CLOSE else b"x", op, rsv=5)
            self.fails(peer, 1002)

    # 4: opcodes

    def test_4_opcodes(self):
        for op, peer in self.cases((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)):
            peer.send(b"x", op)
            self.fails(peer, 1002)

    # 5: fragments

    def test_5_fragmented_control_frames(self):
        for op, peer in self.cases((PING, PONG)):
            peer.send(b"frag", op, fin=False)
            self.fails(peer, 1002)

    def test_5_messages(self):
        for op, peer in self.cases((TEXT, BINARY)):
            peer.send(b"fragment1", op, fin=False)
            peer.send(b"ping", PING)
            peer.send(b"", CONTINUATION, fin=False)
            peer.send(b"fragment2", CONTINUATION)
            f = peer.frame()
            self.assertEqual((f.op, f.payload), (PONG, b"ping"))
            self.echoes(peer, b"fragment1fragment2", op)
            self.finish(peer)

    def test_5_all_at_once_and_a_byte_at_a_time(self):
        for chop, peer in self.cases((1, 100000)):
            def f(*args, peer=peer, **options):
                return ws.frame(*args, mask=b"wxyz" if peer.client else None, **options)
            data = (f(b"fragment1", TEXT, fin=False) + f(b"fragment2", CONTINUATION, fin=False) + f(b"", PING) + f(b"fragment3", CONTINUATION, fin=False) +
                    f(b"fragment4", CONTINUATION, fin=False) + f(b"again", PING) + f(b"fragment5", CONTINUATION))
            for i in range(0, len(data), chop):
                peer.raw(data[i:i + chop])
            self.assertEqual([peer.frame().payload, peer.frame().payload], [b"", b"again"])
            self.echoes(peer, b"fragment1fragment2fragment3fragment4fragment5", TEXT)
            self.finish(peer)

    def test_5_nothing_to_continue(self):
        for fin, peer in self.cases((True, False)):
            peer.send(b"non-continuation", CONTINUATION, fin=fin)
            self.fails(peer, 1002)

    def test_5_message_within_a_message(self):
        for op, peer in self.cases((TEXT, BINARY)):
            peer.send(b"fragment1", TEXT, fin=False)
            peer.send(b"fragment2", op)
            self.fails(peer, 1002)

    # 6: UTF-8

    def test_6_valid(self):
        for text, peer in self.cases(VALID_TEXTS):
            peer.send(text, TEXT)
            self.echoes(peer, text, TEXT)
            for i in range(len(text)): # cut at every byte
                peer.send(text[i:i + 1], TEXT if i == 0 else CONTINUATION, fin=i == len(text) - 1)
            if text:
                self.echoes(peer, text, TEXT)
            self.finish(peer)

    def test_6_empty_fragments(self):
        for text, peer in self.cases((b"", b"middle frame payload")):
            peer.send(b"", TEXT, fin=False)
            peer.send(text, CONTINUATION, fin=False)
            peer.send(b"", CONTINUATION)
            self.echoes(peer, text, TEXT)
            self.finish(peer)

    def test_6_invalid(self):
        for text, peer in self.cases(INVALID_TEXTS):
            peer.send(text, TEXT)
            self.fails(peer, 1007)

    def test_6_invalid_at_once(self):
        """Without waiting for the end of the frame, or of the message."""
        peer = self.peer()
        peer.send(b"\xce\xba\xe1\xbd\xb9", TEXT, fin=False)
        peer.send(b"\xf4\x90\x80\x80", CONTINUATION, fin=False)
        self.fails(peer, 1007)
        peer = self.peer()
        peer.raw(ws.frame(b"\xce\xba\xf4\x90\x80\x80 and more to come", TEXT, mask=b"1234" if peer.client else None)[:-15])
        self.fails(peer, 1007)

    def test_6_binary_is_anything(self):
        for text, peer in self.cases(INVALID_TEXTS[:5]):
            peer.send(text, BINARY)
            self.echoes(peer, text, BINARY)
            self.finish(peer)

    # 7: closing

    def test_7_after_a_message(self):
        peer = self.peer()
        peer.send(HELLO, TEXT)
        self.echoes(peer, HELLO, TEXT)
        self.finish(peer)

    def test_7_twice_and_what_follows(self):
        for op, peer in self.cases((CLOSE, PING, TEXT)):
            peer.close(1000)
            peer.send(b"\x03\xe8" if op == CLOSE else b"too late", op)
            self.assertEqual(peer.closed(), 1000)

    def test_7_within_a_message(self):
        peer = self.peer()
        peer.send(b"fragment1", TEXT, fin=False)
        self.finish(peer)

    def test_7_behind_much_data(self):
        peer = self.peer()
        payload = b"BAsd7&jh23" * 26000
        peer.send(payload, TEXT)
        peer.close(1000)
        self.echoes(peer, payload, TEXT)
        self.assertEqual(peer.closed(), 1000)

    def test_7_payloads(self):
        peer = self.peer()
        peer.send(b"", CLOSE)
        peer.close_sent = True
        self.assertEqual(peer.closed(), None)
        for reason, peer in self.cases((b"", b"Hello World!", b"*" * 123, "κόσμε".encode())):
            peer.send(b"\x03\xe8" + reason, CLOSE)
            peer.close_sent = True
            self.assertEqual(peer.closed(), 1000)

    def test_7_bad_payloads(self):
        for payload, peer in self.cases((b"x", b"\x03\xe8" + b"*" * 124, b"\x03\xe8\xce\xba\xed\xa0\x80")):
            peer.send(payload, CLOSE)
            self.fails(peer, 1002, 1007)

    def test_7_codes(self):
        for code, peer in self.cases((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)):
            peer.close(code)
            self.assertEqual(peer.closed(), code)
        for code, peer in self.cases((0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)):
            peer.close(code)
            self.fails(peer, 1002)

    # 9: large and many

    def test_9_large(self):
        payload = os.urandom(1 << 20) * 4
        for fragment, peer in self.cases((None, 64, 4096, 1 << 20)):
            part = payload if fragment != 64 else payload[:1 << 18]
            self._send(peer, part, fragment or len(part))  # the echo begins when the message is whole
            self.echoes(peer, part, BINARY)
            self.finish(peer)

    @staticmethod
    def _send(peer, payload, fragment):
        mask = b"\x81\x42\x24\x18" if peer.client else None
        for i in range(0, len(payload), fragment):
            peer.raw(ws.frame(payload[i:i + fragment], BINARY if i == 0 else CONTINUATION, fin=i + fragment >= len(payload), mask=mask))

    def test_9_many(self):
        for size, peer in self.cases((0, 16, 1024)):
            payload = b"x" * size
            for _ in range(10):  # a hundred at a time fit the buffers; a thread that sends would share one TLS object
                for _ in range(100):
                    peer.send(payload, TEXT)
                for _ in range(100):
                    self.echoes(peer, payload, TEXT)
            self.finish(peer)

    # what the suite does not ask

    def test_masks(self):
        peer = self.peer()
        peer.raw(ws.frame(b"x", mask=None if peer.client else b"abcd"))
        self.fails(peer, 1002)

    def test_lengths(self):
        mask = b"abcd" if self.peer_is_client else b""
        bit = 0x80 if mask else 0
        for head, code in ((struct.pack(">BBH", 0x82, bit | 126, 125), 1002), (struct.pack(">BBQ", 0x82, bit | 127, 65535), 1002),
                           (struct.pack(">BBQ", 0x82, bit | 127, 1 << 63), 1002), (struct.pack(">BBQ", 0x82, bit | 127, (1 << 63) - 1), 1009)):
            peer = self.peer()
            peer.raw(head + mask)
            self.fails(peer, code)


class ServerTest(Conformance, harness.Case):
    peer_is_client = True

    def setUp(self):
        super().setUp()
        self.port = harness.free_port()
        self.cosockd(ECHO, ["server", self.port], listens=[self.port])

    def peer(self):
        return ws.connect(self.connect(self.port))[0]


class TlsServerTest(Conformance, harness.Case):
    peer_is_client = True

    def setUp(self):
        super().setUp()
        self.need("openssl")
        certs = pki.Pki(os.path.join(self.directory, "pki"))
        self.context = ssl.create_default_context(cafile=certs.ca)
        self.port = harness.free_port()
        self.cosockd(ECHO, ["server", self.port, *certs.issue("front.example")], listens=[self.port])

    def peer(self):
        s = self.context.wrap_socket(self.connect(self.port), server_hostname="front.example")
        self.addCleanup(s.close)
        return ws.connect(s)[0]


class MemoryTest(harness.Case):
    def test_few_bytes_in_many_records(self):
        """A byte of a message in each TLS record, behind empty fragments: what is kept are the bytes, not the records."""
        self.need("openssl")
        certs = pki.Pki(os.path.join(self.directory, "pki"))
        port = harness.free_port()
        daemon = self.cosockd(ECHO, ["server", port, *certs.issue("front.example")], listens=[port])
        sock = self.connect(port)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = ssl.create_default_context(cafile=certs.ca).wrap_bio(coming, going, server_hostname="front.example")

        def run(call, *arguments):
            while True:
                try:
                    result = call(*arguments)
                    sock.sendall(going.read())
                    return result
                except ssl.SSLWantReadError:
                    sock.sendall(going.read())
                    coming.write(sock.recv(65536))

        run(session.do_handshake)
        run(session.write, b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                           b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
        self.assertIn(b" 101 ", run(session.read, 4096))
        before = daemon.rss_settled()
        mask = b"\0\0\0\0"
        run(session.write, ws.frame(b"", TEXT, fin=False, mask=mask))
        record = ws.frame(b"", CONTINUATION, fin=False, mask=mask) * 698 + ws.frame(b"x", CONTINUATION, fin=False, mask=mask)
        rest = b""
        for _ in range(2000):
            session.write(record)
            data = rest + going.read()
            cut = len(data) - len(record) // 2 # in the middle of a record
            sock.sendall(data[:cut])
            rest = data[cut:]
            time.sleep(0.0005) # so that each half comes by itself
        sock.sendall(rest)
        run(session.write, ws.frame(b"", PING, mask=mask))
        self.assertEqual(run(session.read, 4096), ws.frame(b"", PONG))
        if not harness.SANITIZER:
            self.assertLess(daemon.rss() - before, 6 << 20, "2,000 bytes take as much")
        sock.close()


class ClientTest(Conformance, harness.Case):
    peer_is_client = False

    def setUp(self):
        super().setUp()
        self.waiting = queue.Queue()
        over = threading.Event()

        def keep(connection):
            self.waiting.put(connection)
            over.wait()

        s = self.server(keep)
        self.cosockd(ECHO, ["client", s.port])

        def end():
            over.set()
            s.close()
            while not self.waiting.empty():
                self.waiting.get().close()

        self.addCleanup(end)

    def peer(self):
        s = self.waiting.get(timeout=20 * harness.SLOW)
        s.settimeout(20 * harness.SLOW)
        return ws.accept(s)[0]


class DeflateTest(harness.Case):
    """12, 13: permessage-deflate (RFC 7692)."""

    TAIL = b"\0\0\xff\xff"

    def start(self, kind, offer="permessage-deflate; client_max_window_bits"):
        self.port = harness.free_port()
        self.daemon = self.cosockd(ECHO, ["server", self.port], listens=[self.port], env={"DEFLATE": kind})
        return self.open(offer)

    def open(self, offer="permessage-deflate"):
        self.pack = zlib.compressobj(9, zlib.DEFLATED, -15)
        self.unpack = zlib.decompressobj(-15)
        peer, self.answer = ws.connect(self.connect(self.port), header=[("Sec-WebSocket-Extensions", offer)])
        return peer

    def small(self, data):
        return (self.pack.compress(data) + self.pack.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def answers(self, peer, data, op):
        f = peer.frame()
        self.assertEqual((f.op, f.rsv, f.fin), (op, 4, True))
        self.assertTrue(self.unpack.decompress(f.payload + self.TAIL) == data, "other bytes")
        return len(f.payload)

    def fresh(self):
        self.pack = zlib.compressobj(9, zlib.DEFLATED, -15)
        self.unpack = zlib.decompressobj(-15)

    def test_messages(self):
        for kind in ("deflate", "takeover"):
            with self.subTest(kind=kind):
                peer = self.start(kind)
                for size in (1, 50, 4096, 100000, 3000000):
                    data = (b"some text that comes again, %d " % size) * (size // 30 + 1)
                    for op in (TEXT, BINARY):
                        payload = self.small(data)
                        for i in range(0, len(payload), 5000): # compressed first, then fragmented
                            peer.send(payload[i:i + 5000], op if i == 0 else CONTINUATION, fin=i + 5000 >= len(payload), rsv=4 if i == 0 else 0)
                        self.answers(peer, data, op)
                        if kind == "deflate":
                            self.fresh()
                peer.send(b"not compressed", TEXT)
                self.answers(peer, b"not compressed", TEXT)
                peer.end()

    def test_takeover_makes_what_comes_again_smaller(self):
        peer = self.start("takeover")
        data = harness.noise(5000)
        sizes = []
        for _ in range(2):
            peer.send(self.small(data), BINARY, rsv=4)
            sizes.append(self.answers(peer, data, BINARY))
        self.assertLess(sizes[1], 200)
        self.assertGreater(sizes[0], 4000)

    def test_refused(self):
        bad_text = b"\xff\xfe"
        cases = ((lambda p: p.send(self.small(b"x"), PING, rsv=4), (1002,)), (lambda p: p.send(self.small(b"x"), BINARY, rsv=2), (1002,)),
                 (lambda p: (p.send(b"a", TEXT, fin=False), p.send(b"b", CONTINUATION, rsv=4)), (1002,)),
                 (lambda p: p.send(b"\xff" * 50, BINARY, rsv=4), (1002, 1007)), (lambda p: p.send(self.small(bad_text), TEXT, rsv=4), (1007,)),
                 (lambda p: p.send(self.small(bytes((1 << 25) + 1)), BINARY, rsv=4), (1009,)))
        self.start("deflate").end()
        for send, codes in cases:
            peer = self.open()
            send(peer)
            f = peer.frame()
            self.assertEqual(f.op, CLOSE)
            self.assertIn(struct.unpack(">H", f.payload[:2])[0], codes)
            peer.end()

    def test_not_agreed_on(self):
        peer = self.start("none")
        self.assertNotIn("sec-websocket-extensions", self.answer)
        peer.send(self.small(b"x"), BINARY, rsv=4)
        self.assertEqual(peer.closed(), 1002)

    def test_a_bomb_takes_little_memory(self):
        """Nobody reads the echoes: what is made large stays within the limits of the buffers and of one message."""
        peer = self.start("deflate")
        before = self.daemon.rss_settled()
        bomb = self.small(bytes(1 << 24))
        self.fresh()
        peer.sock.settimeout(2)
        try:
            for _ in range(500):
                peer.send(bomb, BINARY, rsv=4)
        except TimeoutError:
            pass
        if not harness.SANITIZER:
            self.assertLess(self.daemon.rss() - before, 160 << 20)
        peer.end()

    def test_node(self):
        node = self.need("node")
        script = self.write("client.js", """
const WebSocket = require("ws");
const text = "all work and no play ".repeat(5000);
const socket = new WebSocket(process.argv[2], {perMessageDeflate: {threshold: 0}});
let n = 0;
socket.on("open", () => {
  if (!socket.extensions.includes("permessage-deflate")) throw new Error("not compressed");
  for (let i = 0; i < 20; i++) socket.send(text + i);
});
socket.on("message", (data, binary) => {
  if (binary || data.toString() !== text + n) throw new Error("message " + n);
  if (++n === 20) socket.close(1000);
});
socket.on("close", (code) => console.log("closed", code));
""")
        for kind in ("deflate", "takeover"):
            self.start(kind).end()
            run = subprocess.run([node, script, f"ws://127.0.0.1:{self.port}/"], capture_output=True, text=True, timeout=60, check=False,
                                 env={**os.environ, "NODE_PATH": "/usr/share/nodejs:/usr/lib/nodejs"})
            if "Cannot find module" in run.stderr:
                self.skipTest("node-ws is not installed")
            self.assertEqual(run.stdout, "closed 1000\n", run.stderr)


if __name__ == "__main__":
    harness.main()
