"""wstunnel.lua: TCP through a WebSocket to a peer cosockd; both ends in one daemon."""

import os
import subprocess

import harness
import pki
import ws
from bridges import ClientEnd, ServerEnd
from flow import Flow

SUBPROTOCOL = "tunnel.cosockd"

# What users write: either end as a loop of read and write in each direction.
LOOP = """
local address = require "cosock.address"
local websocket = require "cosock.websocket"
local role, listen, to, ms = ...
local OPTIONS = {subprotocols = {"tunnel.cosockd"}, required = true, halfclose = true, maxframe = 1 << 24, timeout = tonumber(ms)}

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
    local head = ba.http.reader(client, "request"):head(OPTIONS.timeout)
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


    def loop(self, role, listen, to, ms=20000):
        return self.cosockd(LOOP, [role, f"127.0.0.1:{listen}", f"127.0.0.1:{to}", ms], listens=[listen])


class ThereTest(ServerEnd, TunnelCase):
    def start(self, origin, head_ms=10000):
        self.daemon = self.tunnel(origin.port, there=f'handshake_timeout = "{head_ms}ms"')[0]
        return self.gate

    def open(self, port):
        return ws.connect(self.connect(port), "/t", [SUBPROTOCOL])[0]


class HereTest(ClientEnd, TunnelCase):
    answer = [("Sec-WebSocket-Protocol", SUBPROTOCOL)]

    def begin(self, gate, handshake_ms=10000):
        port = harness.free_port()
        self.daemon = self.service(f"""service "here" {{ script = "wstunnel.lua", listen = "127.0.0.1:{port}",
            url = "ws://127.0.0.1:{gate.port}/t", handshake_timeout = "{handshake_ms}ms" }}""", [port])
        return port


class HereLoopTest(HereTest):
    def begin(self, gate, handshake_ms=10000):
        port = harness.free_port()
        self.daemon = self.loop("here", port, gate.port, handshake_ms)
        return port


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
        self.loop("here", front, self.gate)
        self.loop("there", gate, origin.port)
        self.loop("here", other, gate)
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
                ws.connect(self.connect(self.gate), "/t", [SUBPROTOCOL], header)
            self.assertEqual(refused.exception.status, 403)
        ws.connect(self.connect(self.gate), "/t", [SUBPROTOCOL], [("Authorization", "Bearer open-sesame")])[0].end()

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

    def test_a_peer_that_is_not_there(self):
        port, gate = harness.free_port(), harness.free_port()
        daemon = self.service(f'service "here" {{ script = "wstunnel.lua", listen = "127.0.0.1:{port}", url = "ws://127.0.0.1:{gate}/" }}', [port])
        with self.connect(port) as s:
            self.assertEqual(harness.read_all(s), b"")
        daemon.wait_log("no tunnel through ws://127.0.0.1:.*: connection refused")

    def test_tls(self):
        self.need("openssl")
        certs = pki.Pki(os.path.join(self.directory, "pki"))
        cert, key = certs.issue("localhost")
        _, port = self.tunnel(self.server(harness.echo).port, f'upstream_tls = {{ ca = "{certs.ca}" }}',
                              f'tls = {{ cert = "{cert}", key = "{key}" }}', scheme="wss", host="localhost")
        self.assert_echo(port, harness.noise(1 << 20))

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
