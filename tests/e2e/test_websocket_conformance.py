"""RFC 6455 and 7692 case by case (wscases.py) against an echo of whole messages: our server with a client made by hand, and our client
with a server made by hand, plain and over TLS. The suite in its full size:

    COSOCKD_WEBSOCKET=whole python3 tests/e2e/test_websocket_conformance.py -k suite
"""

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
import wscases
from ws import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

ECHO = """
local address = require "cosock.address"
local websocket = require "cosock.websocket"
local role, port, certificate, key = ... -- a client's certificate: the authority
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
  local connect = certificate and require "cosock.tls".client {ca = certificate} or {}
  connect.timeout = 3600000 -- the other end has one at a time, and TLS begins when its turn comes
  for _ = 1, 4 do -- a connection waits in each
    ba.thread.run(function()
      while true do
        local sock = ba.socket.connect("localhost", tonumber(port), connect)
        if not sock then break end
        if websocket.connect(sock, "test", "/", OPTIONS) then echo(sock) end
        sock:close()
      end
    end)
  end
end
"""

# The 517 cases in full, with all their messages: a quarter of an hour for each class below. Otherwise they are made small, and over TLS
# every seventh is run. Of those with compression each kind of echo has every other one.
WHOLE = os.environ.get("COSOCKD_WEBSOCKET") == "whole"
TAIL = b"\0\0\xff\xff"  # of a compressed message, not sent (RFC 7692 7.2.1)


def parameters(text):
    """Of the first offer, or of the answer."""
    fields = text.split(",")[0].split(";")
    return {name.strip(): value.strip() for name, _, value in (field.partition("=") for field in fields[1:])}


class Compression:
    """What a peer by hand compresses with, as it was agreed on. us, them: "client" or "server"."""

    def __init__(self, agreed, us, them):
        self.keep = f"{us}_no_context_takeover" not in agreed
        self.kept = f"{them}_no_context_takeover" not in agreed
        self.bits = int(agreed.get(f"{us}_max_window_bits") or 15)
        self.their_bits = int(agreed.get(f"{them}_max_window_bits") or 15)
        self.start()
        self.start_theirs()

    def start(self):
        self.small = zlib.compressobj(1, zlib.DEFLATED, -self.bits)

    def start_theirs(self):
        self.back = zlib.decompressobj(-self.their_bits)

    def pack(self, data):
        payload = self.small.compress(data) + self.small.flush(zlib.Z_SYNC_FLUSH)
        if not self.keep:
            self.start()
        return payload[:-4]

    def unpack(self, payload):
        data = self.back.decompress(payload + TAIL)
        if not self.kept:
            self.start_theirs()
        return data


def offers(way):
    """What the suite's client asks for."""
    return ", ".join("permessage-deflate" + ("; server_no_context_takeover" if alone else "") + (f"; server_max_window_bits={bits}" if bits else "") +
                     "; client_no_context_takeover; client_max_window_bits" for alone, bits in way.agreements)


def answer(way, offer):
    """And what its server answers."""
    asked = parameters(offer)
    alone, bits = way.agreements[0]
    said = ["permessage-deflate"]
    if "server_no_context_takeover" in asked:
        said.append("server_no_context_takeover")
    if "server_max_window_bits" in asked:
        said.append("server_max_window_bits=" + asked["server_max_window_bits"])
    if alone or "client_no_context_takeover" in asked:
        said.append("client_no_context_takeover")
    if bits and "client_max_window_bits" in asked:
        said.append(f"client_max_window_bits={bits}")
    return "; ".join(said)


class Conformance:
    """peer(way): a fresh connection's other end, with compression or, without a way, none. every: one case of so many is run."""

    kind = "none"
    every = 1

    def event(self, peer):
        """The next message, (op, payload); or Pong or Close."""
        op, rsv, parts = None, 0, []
        while True:
            f = peer.frame()
            self.assertEqual(f.masked, not peer.client)
            if f.op in (CLOSE, PONG):
                return f.op, f.payload
            if op is None:
                op, rsv = f.op, f.rsv
            parts.append(f.payload)
            if f.fin:
                payload = b"".join(parts)
                self.assertIn(rsv, (0, 4) if peer.compression else (0,))
                return op, peer.compression.unpack(payload) if rsv else payload

    @staticmethod
    def pieces(peer, frames, chop):
        data = [ws.frame(payload, op, fin, rsv, b"\x81\x42\x24\x18" if peer.client else None) for op, payload, fin, rsv in frames]
        if chop == "frame":
            return data
        data = b"".join(data)
        return [data[i:i + chop] for i in range(0, len(data), chop)] if chop else [data]

    def step(self, peer, step):
        if step[0] == "get":
            got = self.event(peer)
            self.assertEqual(got[0], step[1], got[1][:40])
            self.assertTrue(got[1] == step[2], f"other bytes: {got[1][:40]} ({len(got[1])}) for {step[2][:40]} ({len(step[2])})")
        elif step[0] == "part":  # of a frame
            data = self.pieces(peer, step[1:2], None)[0]
            head = len(data) - len(step[1][1])
            for part in step[2]:
                peer.raw(data[:head + len(part)])
                data, head = data[head + len(part):], 0
        else:
            if step[0] == "packed":
                _, op, payload, fragment = step
                step = wscases.send(*wscases.fragments(op, peer.compression.pack(payload), fragment, 4))
            for data in self.pieces(peer, *step[1:]):
                peer.raw(data)

    def run_case(self, case):
        peer = self.peer(case.deflate)
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = None
        for step in case.steps:
            if step[0] != "get" or not case.may:
                self.step(peer, step)
            elif not got:  # what may have been overtaken by the end
                got = self.event(peer)
                got = None if got == step[1:] else got
        if case.end == wscases.CLEAN:
            peer.close(1000)
        got = got or self.event(peer)
        self.assertEqual(got[0], CLOSE, got)
        code = struct.unpack(">H", got[1][:2])[0] if got[1] else None
        if isinstance(case.end, tuple):
            self.assertIn(code, case.end)
        elif case.end == wscases.CLEAN:
            self.assertEqual(code, 1000)
        else:
            sent = next(payload for op, payload, *_ in case.steps[0][1] if op == CLOSE)
            self.assertEqual(code, struct.unpack(">H", sent[:2])[0] if sent else None)
        peer.end()

    def run_cases(self, groups, first=0, every=1):
        for i, case in enumerate(case for case in wscases.cases(WHOLE) if case.group in groups):
            if (i - first) % (every if WHOLE else every * self.every) == 0:
                with self.subTest(case=case.number):
                    self.run_case(case)

    def test_the_suite(self):
        self.start("none")
        self.run_cases(range(1, 11))

    def test_the_suite_with_compression(self):
        for first, kind in enumerate(("deflate", "takeover")):
            self.start(kind)
            self.run_cases((12, 13), first, 2)

    # what the suite does not ask

    def fails(self, peer, code):
        """It ends the connection with this code, and sends no data before."""
        op, payload = self.event(peer)
        self.assertEqual((op, struct.unpack(">H", payload[:2])[0]), (CLOSE, code))
        peer.end()

    def test_compression_agreed_on_and_not_used(self):
        """All but what the reserved bit means: messages need not be compressed (RFC 7692 6)."""
        self.start("takeover")
        for case in wscases.cases(False)[::self.every]:
            if case.group in (1, 2, 4, 5, 7):
                case.deflate = wscases.WAYS[0]
                with self.subTest(case=case.number):
                    self.run_case(case)

    def test_masks(self):
        self.start("none")
        peer = self.peer()
        peer.raw(ws.frame(b"x", mask=None if peer.client else b"abcd"))
        self.fails(peer, 1002)

    def test_lengths(self):
        self.start("none")
        for n, form, code in ((125, ">BBH", 1002), (65535, ">BBQ", 1002), (1 << 63, ">BBQ", 1002), ((1 << 63) - 1, ">BBQ", 1009)):
            peer = self.peer()
            bit = 0x80 if peer.client else 0
            peer.raw(struct.pack(form, 0x82, bit | (126 if form == ">BBH" else 127), n) + (b"abcd" if peer.client else b""))
            self.fails(peer, code)


class ServerTest(Conformance, harness.Case):
    """Our server; the suite is a client."""

    def files(self):
        return ()

    def start(self, kind):
        self.port = harness.free_port()
        self.cosockd(ECHO, ["server", self.port, *self.files()], listens=[self.port], env={"DEFLATE": kind})

    def socket(self):
        return self.connect(self.port)

    def peer(self, way=None):
        header = [("Sec-WebSocket-Extensions", offers(way))] if way else []
        peer, head = ws.connect(self.socket(), header=header)
        agreed = head.get("sec-websocket-extensions")
        self.assertEqual(agreed is not None, way is not None)
        peer.compression = way and Compression(parameters(agreed), "client", "server")
        if way: # what was asked for first can be done
            alone, bits = way.agreements[0]
            self.assertTrue(not alone or not peer.compression.kept)
            self.assertLessEqual(peer.compression.their_bits, bits or 15)
        return peer


class TlsServerTest(ServerTest):
    every = 7

    def files(self):
        self.need("openssl")
        certs = pki.Pki(os.path.join(self.directory, f"pki{self.port}"))
        self.context = ssl.create_default_context(cafile=certs.ca)
        return certs.issue("front.example")

    def socket(self):
        s = self.context.wrap_socket(self.connect(self.port), server_hostname="front.example")
        self.addCleanup(s.close)
        return s


class ClientTest(Conformance, harness.Case):
    """Our client; the suite is a server."""

    def setUp(self):
        super().setUp()
        self.over = threading.Event()
        self.addCleanup(self.end)
        self.waiting = []

    def end(self):
        self.over.set()
        for server, waiting in self.waiting:
            server.close()
            while not waiting.empty():
                waiting.get().close()

    def files(self):
        return ()

    def start(self, kind):
        waiting = queue.Queue()

        def keep(connection):
            waiting.put(connection)
            self.over.wait()

        server = self.server(keep)
        self.waiting.append((server, waiting))
        self.cosockd(ECHO, ["client", server.port, *self.files()], env={"DEFLATE": kind})

    def socket(self):
        s = self.waiting[-1][1].get(timeout=20 * harness.PATIENCE)
        s.settimeout(20 * harness.PATIENCE)
        return s

    def peer(self, way=None):
        given = {}

        def extensions(request):
            if not way:
                return []
            given["answer"] = answer(way, request["sec-websocket-extensions"])
            return [("Sec-WebSocket-Extensions", given["answer"])]

        peer = ws.accept(self.socket(), extensions)[0]
        peer.compression = way and Compression(parameters(given["answer"]), "server", "client")
        return peer


class TlsClientTest(ClientTest):
    every = 7

    def files(self):
        self.need("openssl")
        certs = pki.Pki(os.path.join(self.directory, f"pki{len(self.waiting)}"))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*certs.issue("localhost"))
        return (certs.ca,)

    def socket(self):
        return self.context.wrap_socket(super().socket(), server_side=True)


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


class DeflateTest(harness.Case):
    """permessage-deflate (RFC 7692), beside what the suite asks."""

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
        self.assertTrue(self.unpack.decompress(f.payload + TAIL) == data, "other bytes")
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
