"""wstunnel.lua: TCP through a WebSocket to a peer cosockd; both ends in one daemon."""

import contextlib
import os
import struct
import subprocess
import time

import harness
import pki
import ws
from flow import Flow


# What users write: either end as a loop of read and write in each direction.
LOOP = """
local address = require "cosock.address"
local websocket = require "cosock.websocket"
local role, listen, to = ...
local OPTIONS = {subprotocols = {"tunnel.cosockd"}, required = true, halfclose = true, maxframe = 1 << 24}

local function pump(from, to)
  while true do
    local data = from:read()
    if not data or not to:write(data) then break end
  end
  from:close()
  to:close()
end

local function serve(client)
  if role == "there" then
    local head = ba.http.reader(client, "request"):head(10000)
    if not head or not websocket.accept(client, head, OPTIONS) then return end
  end
  ba.socket.event(function()
    local server = address.connect(to)
    if server and role == "here" and not websocket.connect(server, "test", "/t", OPTIONS) then server:close() server = nil end
    if not server then return client:close() end
    client:enable(server)
    pump(server, client)
  end)
  local server = client:disable()
  if server then pump(client, server) end
end

address.listen(listen, function(client) client:event(serve, "s") end)
"""


class TunnelCase(harness.Case):
    def tunnel(self, origin_port, here="", there="", settings="", scheme="ws", host="127.0.0.1"):
        front, gate = harness.free_port(), harness.free_port()
        self.gate = gate
        daemon = self.service(f"""{settings}
service "there" {{ script = "wstunnel.lua", listen = "127.0.0.1:{gate}", targets = {{ ["/t"] = "127.0.0.1:{origin_port}" }}, {there} }}
service "here" {{ script = "wstunnel.lua", listen = "127.0.0.1:{front}", url = "{scheme}://{host}:{gate}/t", {here} }}
""", [front, gate])
        return daemon, front


class WsTunnelFlowTest(TunnelCase, Flow):
    """Slow readers and resets, as in the other tunnels."""


class WsTunnelTest(TunnelCase):
    def test_bytes_both_ways(self):
        _, port = self.tunnel(self.server(harness.echo).port)
        for size in (1, 1000, 65536, 4 << 20):
            self.assert_echo(port, harness.noise(size, size))

    def test_each_end_as_a_loop(self):
        """Instead of the script, beside the script."""
        origin = self.server(harness.echo)
        self.tunnel(origin.port)
        front, gate, other = (harness.free_port() for _ in range(3))
        self.cosockd(LOOP, ["here", f"127.0.0.1:{front}", f"127.0.0.1:{self.gate}"], listens=[front])
        self.cosockd(LOOP, ["there", f"127.0.0.1:{gate}", f"127.0.0.1:{origin.port}"], listens=[gate])
        self.cosockd(LOOP, ["here", f"127.0.0.1:{other}", f"127.0.0.1:{gate}"], listens=[other])
        for port in (front, other):
            for size in (1, 1000, 65536, 4 << 20):
                self.assert_echo(port, harness.noise(size, size))

    def test_half_close_by_the_client(self):
        self.assert_client_may_end_first(lambda port: self.tunnel(port)[1])

    def test_half_close_by_the_origin(self):
        self.assert_origin_may_end_first(lambda port: self.tunnel(port)[1])

    def test_secret(self):
        origin = self.server(harness.echo)
        _, port = self.tunnel(origin.port, 'secret = "open-sesame"', 'secret = "open-sesame"')
        self.assert_echo(port)
        for header in ((), [("Authorization", "Bearer open-sesam")], [("Authorization", "Basic open-sesame")]):
            with self.assertRaises(ws.Refused) as refused:
                ws.connect(self.connect(self.gate), "/t", ["tunnel.cosockd"], header)
            self.assertEqual(refused.exception.status, 403)
        ws.connect(self.connect(self.gate), "/t", ["tunnel.cosockd"], [("Authorization", "Bearer open-sesame")])[0].end()

    def test_wrong_secret(self):
        daemon, port = self.tunnel(self.server(harness.echo).port, 'secret = "a"', 'secret = "b"')
        with self.connect(port) as s:
            self.assertEqual(harness.read_all(s), b"")
        daemon.wait_log("no tunnel through ws://127.0.0.1:.*: status 403")

    def test_a_client_that_is_no_tunnel(self):
        self.tunnel(self.server(harness.echo).port)
        with self.assertRaises(ws.Refused) as refused:
            ws.connect(self.connect(self.gate), "/t", ["binary"])
        self.assertEqual(refused.exception.status, 400)

    def test_an_origin_that_is_not_there(self):
        daemon, port = self.tunnel(harness.free_port())
        with self.connect(port) as s:
            self.assertEqual(harness.read_all(s), b"")
        daemon.wait_log("no tunnel through ws://127.0.0.1:.*: status 502")

    def test_tls(self):
        self.need("openssl")
        certs = pki.Pki(os.path.join(self.directory, "pki"))
        cert, key = certs.issue("localhost")
        _, port = self.tunnel(self.server(harness.echo).port, f'upstream_tls = {{ ca = "{certs.ca}" }}',
                              f'tls = {{ cert = "{cert}", key = "{key}" }}', scheme="wss", host="localhost")
        self.assert_echo(port, harness.noise(1 << 20))

    def test_a_gate_that_misbehaves(self):
        """Before and after its answer: silent, one byte at a time, a head without end, frames that break the rules, a reset."""
        def trickle(c):
            for byte in b"HTTP/1.1 101 Switching Protocols\r\n" + b"x" * 10000:
                if harness.ended(c):
                    break
                c.send(bytes([byte]))
                time.sleep(0.02)

        def endless(c):
            c.sendall(b"HTTP/1.1 101 Switching Protocols\r\n")
            for _ in range(1 << 18):
                c.sendall(b"X-Field: x\r\n")
            raise AssertionError("all of it was taken")

        def after(data):
            def gate(c):
                peer, _, _ = ws.accept(c, [("Sec-WebSocket-Protocol", "tunnel.cosockd")])
                peer.raw(data)
                codes.append(peer.closed())
            return gate

        codes = []
        masked, huge, reserved = ws.frame(b"x", mask=b"abcd"), struct.pack(">BBQ", 0x82, 127, 1 << 63), ws.frame(b"x", rsv=2)
        gates = [(harness.read_all, None), (trickle, None), (endless, None), (harness.reset, None), (lambda c: c.sendall(b"SSH-2.0\r\n"), None)]
        gates += [(after(data), code) for data, code in ((masked, 1002), (huge, 1002), (reserved, 1002), (ws.frame(b"ab", ws.CLOSE, length=1), 1002))]
        fronts = [harness.free_port() for _ in gates]
        services = []
        for i, (gate, _) in enumerate(gates):
            def quietly(c, gate=gate):
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    gate(c)

            services.append(f'''service "here{i}" {{ script = "wstunnel.lua", listen = "127.0.0.1:{fronts[i]}",
                url = "ws://127.0.0.1:{self.server(quietly).port}/t", handshake_timeout = "{'500ms' if i < 2 else '60s'}" }}''')
        self.service("\n".join(services), fronts)
        for i, (_, code) in enumerate(gates):
            with self.subTest(gate=i):
                with self.connect(fronts[i]) as s, contextlib.suppress(ConnectionResetError):
                    self.assertEqual(harness.read_all(s), b"")
                if code:
                    harness.until(lambda: codes, 10, "the Close")
                    self.assertEqual(codes.pop(), code)

    def test_pings(self):
        _, port = self.tunnel(self.server(harness.echo).port, 'ping = "50ms"', 'ping = "50ms"')
        with self.connect(port) as s:
            self.assertTrue(ws.quiet(s, 0.5))
            s.sendall(b"still there")
            self.assertEqual(harness.read_exactly(s, 11), b"still there")

    def test_bad_configurations(self):
        for body, words in (('url = "http://x/"', "is not one (ws://"), ('url = "ws://x/", upstream_tls = {}', "wss:// is TLS"),
                            ('url = "ws://x/", target = "a:1"', 'unknown key "target"'), ('target = "a:1", upstream_tls = {}', 'unknown key "upstream_tls"'),
                            ('target = "a:1", secret = "two words"', "secret:"), ("", "no target, targets or tokens")):
            path = self.config(f'service "b" {{ script = "wstunnel.lua", listen = ":1", {body} }}\n')
            run = subprocess.run([harness.COSOCKD, "-t", "-c", path], capture_output=True, text=True, check=False, timeout=60)
            self.assertNotEqual(run.returncode, 0, body)
            self.assertIn(words, run.stderr + run.stdout, body)


if __name__ == "__main__":
    harness.main()
