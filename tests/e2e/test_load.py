"""The load generator of the bench: each of its modes, straight to its origin and through the daemon, and that it notices
what is wrong."""

import json
import os
import socket
import subprocess
import threading

import harness
import pki
import tunnels
import ws

LIMIT = 30 * harness.PATIENCE


def datagram_port():
    """A free port of UDP: bound once, and left to who is told."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", harness.free_port()))
        return s.getsockname()[1]


def datagrams(port):
    """True while somebody has it."""
    with open("/proc/net/udp", encoding="ascii") as f:
        return any(int(line.split()[1].rsplit(":", 1)[1], 16) == port for line in f.readlines()[1:])


class Case(harness.Case):
    def setUp(self):
        super().setUp()
        self.program = self.need(tunnels.LOAD)

    def origin(self, *options):
        """Its port."""
        port = datagram_port() if "--udp" in options else harness.free_port()
        process = subprocess.Popen([self.program, "sink", "--to", f"127.0.0.1:{port}", "--alarm", str(LIMIT * 2), *options],
                                   stdout=subprocess.PIPE, text=True, preexec_fn=harness.die_with_parent)
        self.addCleanup(process.wait, LIMIT)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.terminate)
        self.assertIn("ready", process.stdout.readline())
        return port

    def load(self, mode, port, *options, limit=LIMIT):
        """Its last line, and whether it was content."""
        run = subprocess.run([self.program, mode, "--to", f"127.0.0.1:{port}", "--limit", str(limit), "--alarm", str(LIMIT * 2),
                              *map(str, options)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        result = json.loads(run.stdout.strip().split("\n")[-1])
        self.assertEqual(run.returncode, 0 if result["ok"] else 1, run.stderr)
        return result

    def good(self, mode, port, *options):
        result = self.load(mode, port, *options)
        self.assertTrue(result["ok"], result)
        return result

    def every_mode(self, port, *options):
        """Of streams."""
        r = self.good("hold", port, "-c", 20, "--procs", 2, "--seconds", 0.1, *options)
        self.assertEqual((r["verified"], r["reverified"], r["lost"]), (20, 20, 0))
        r = self.good("rr", port, "-c", 4, "--count", 100, "--size", 3000, *options)
        self.assertGreaterEqual(r["count"], 100)
        self.assertGreater(r["latency_us"]["p99"], 0)
        self.good("rr", port, "-c", 4, "--count", 200, "--pipeline", 8, *options)
        self.good("rr", port, "-c", 4, "--rate", 400, "--warmup", 0.1, "--count", 100, *options)
        for way, times in (("up", 1), ("down", 1), ("both", 2)):
            r = self.good("bulk", port, "-c", 2, "--mib", 4, "--way", way, *options)
            self.assertEqual(r["bytes"], times * 4 << 20)
        self.assertGreaterEqual(self.good("rate", port, "-c", 4, "--count", 20, *options)["count"], 20)
        r = self.good("slow", port, "-c", 4, "--mib", 16, "--trickle", 5000, "--seconds", 0.5, *options)
        self.assertEqual((r["count"], r["bytes"]), (4, 16 << 20))


class ModesTest(Case):
    def test_straight(self):
        self.every_mode(self.origin())

    def test_relay(self):
        port = harness.free_port()
        self.cosockd(os.path.join(tunnels.BENCH, "scripts", "relay.lua"), [port, "127.0.0.1", self.origin()], [port])
        self.every_mode(port)

    def test_websocket_and_tls(self):
        self.need("openssl")
        cert, key = pki.Pki(os.path.join(self.directory, "pki")).issue("localhost")
        origin, plain, secure = self.origin(), harness.free_port(), harness.free_port()
        bridge = f'script = "wsbridge.lua", target = "127.0.0.1:{origin}"'
        self.service(f'service "ws" {{ {bridge}, listen = "127.0.0.1:{plain}" }}\n'
                     f'service "wss" {{ {bridge}, listen = "127.0.0.1:{secure}", tls = {{ cert = "{cert}", key = "{key}" }} }}\n',
                     [plain, secure])
        self.every_mode(plain, "--websocket")
        self.every_mode(secure, "--websocket", "--tls")

    def test_tls(self):
        self.need("openssl")
        cert, key = pki.Pki(os.path.join(self.directory, "pki")).issue("localhost")
        port = harness.free_port()
        self.service(f'service "tls" {{ script = "tls.lua", listen = "127.0.0.1:{port}", upstreams = {{"127.0.0.1:{self.origin()}"}}, '
                     f'tls = {{ cert = "{cert}", key = "{key}" }} }}\n', [port])
        self.every_mode(port, "--tls")
        r = self.good("rate", port, "-c", 1, "--count", 10, "--tls")
        self.assertEqual(r["resumed"], 0)
        r = self.good("rate", port, "-c", 1, "--count", 10, "--tls", "--resume")
        self.assertEqual(r["resumed"], r["opened"] - 1)  # the first has nothing to go on with

    def test_datagrams(self):
        port = datagram_port()
        self.cosockd(os.path.join(harness.SCRIPTS, "udp.lua"), [f"127.0.0.1:{port}", f"127.0.0.1:{self.origin('--udp')}"])
        harness.until(lambda: datagrams(port), 15, "the UDP port")
        self.good("hold", port, "-c", 20, "--seconds", 0.1, "--udp")
        self.good("rr", port, "-c", 16, "--count", 400, "--udp")
        self.good("rr", port, "-c", 4, "--rate", 400, "--count", 100, "--size", 1400, "--udp")


    def test_ping(self):
        """Is answered, also between two messages."""
        def handler(s):
            peer, _, _ = ws.accept(s)
            for _ in range(2):
                data = peer.bytes(100)
                peer.send(b"there?", ws.PING)
                pong = peer.frame()
                if (pong.op, pong.payload, pong.masked) != (ws.PONG, b"there?", True):
                    raise AssertionError(pong)
                peer.send(data[:30], fin=False)
                peer.send(data[30:], ws.CONTINUATION)
            s.recv(1)

        self.good("hold", self.server(handler).port, "--websocket", "--seconds", 0.1)


class WrongTest(Case):
    """What it must not call good."""

    def test_options(self):
        for mode, *options in (("rr", "--rate", "10", "--pipeline", "2"), ("bulk", "--udp"), ("rr", "--to", "192.0.2.1:80")):
            run = subprocess.run([self.program, mode, "--to", "127.0.0.1:1", *options], capture_output=True, text=True, check=False)
            self.assertEqual((run.returncode, run.stdout), (2, ""))
            self.assertRegex(run.stderr, "^cosock-load: .*(--pipeline|--udp|192.0.2.1)")

    def test_another_byte(self):
        def handler(s):
            data = bytearray(s.recv(65536))
            data[-1] ^= 1
            s.sendall(data)
            s.recv(1)

        r = self.load("rr", self.server(handler).port, "--count", 5)
        self.assertEqual((r["ok"], r["bad"]), (False, 1))

    def test_upload_that_changes(self):
        origin = self.origin()

        def handler(s):
            with socket.create_connection(("127.0.0.1", origin)) as up:
                left = 100000
                while left > 0:
                    data = bytearray(s.recv(left))
                    left -= len(data)
                    if left == 0:
                        data[-1] ^= 1
                    up.sendall(data)
                back = threading.Thread(target=lambda: s.sendall(up.recv(100)))
                back.start()
                while data := s.recv(65536):
                    up.sendall(data)
                back.join()

        r = self.load("bulk", self.server(handler).port, "--mib", 1)
        self.assertEqual((r["ok"], r["bad"]), (False, 1), r)

    def test_closed(self):
        r = self.load("hold", self.server(lambda s: s.sendall(s.recv(65536))).port, "--seconds", 3600, "--wait")
        self.assertEqual((r["ok"], r["lost"]), (False, 1))

    def test_no_answer(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(("127.0.0.1", 0))
            self.assertFalse(self.load("rr", s.getsockname()[1], "--udp", "--seconds", 0.5, limit=2)["ok"])

    def test_upgrade_refused(self):
        def handler(s):
            s.recv(65536)
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            s.recv(1)

        r = self.load("hold", self.server(handler).port, "--websocket", "--seconds", 0.1)
        self.assertEqual((r["ok"], r["failed"]), (False, 1))


if __name__ == "__main__":
    harness.main()
