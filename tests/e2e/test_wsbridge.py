"""wsbridge.lua: WebSockets to TCP and Unix sockets, with node's ws, MQTT through mosquitto, peers that misbehave, and the same bridge
as a loop of read and write."""

import os
import ssl
import struct
import subprocess
import threading

import harness
import pki
import ws
from bridges import ServerEnd

# What users write: the same bridge on the generic API.
LOOP = os.path.join(harness.ROOT, "bench", "scripts", "wsloop.lua")


class BridgeCase(harness.Case):
    def bridge(self, body, settings="", **options):
        port = harness.free_port()
        self.daemon = self.service(f'{settings}\nservice "b" {{ script = "wsbridge.lua", listen = "127.0.0.1:{port}", {body} }}\n', [port],
                                   **options)
        return port

    def to(self, origin, extra=""):
        return self.bridge(f'target = "127.0.0.1:{origin.port}", {extra}')

    def open(self, port, target="/", **options):
        return ws.connect(self.connect(port), target, **options)[0]

    def refused(self, port, target="/", **options):
        with self.assertRaises(ws.Refused) as refused:
            self.open(port, target, **options)
        return refused.exception.status


class BothBridges(ServerEnd):
    """What holds for wsbridge.lua and for the loop."""

    def test_bytes_both_ways(self):
        port = self.start(self.server(harness.echo))
        peer = self.open(port)
        for size in (1, 125, 126, 65535, 65536, 1 << 20):
            data = harness.noise(size, size)
            peer.send(data)
            self.assertEqual(peer.bytes(size), data)

    def test_edges(self):
        """What TCP gives at once is one message; messages and frames are nothing to TCP."""
        got = []

        def origin(c):
            got.append(harness.read_exactly(c, 12))
            for text in (b"first", b"second"):
                c.sendall(text)
                harness.read_exactly(c, 2)
            harness.read_all(c)

        port = self.start(self.server(origin))
        peer = self.open(port)
        peer.send(b"abc", ws.TEXT)
        peer.send(b"de", ws.BINARY, fin=False)
        peer.send(b"", ws.PING)
        peer.send(b"", ws.CONTINUATION, fin=False)
        peer.send(b"fghij", ws.CONTINUATION)
        peer.send(b"")
        peer.send(b"kl")
        self.assertEqual(peer.frame().op, ws.PONG)
        for text in (b"first", b"second"):
            f = peer.frame()
            self.assertEqual((f.op, f.fin, f.payload, f.masked), (ws.BINARY, True, text, False))
            peer.send(b"ok")
        self.assertEqual(got, [b"abcdefghijkl"])
        peer.close()
        self.assertEqual(peer.closed(), 1000)

    def test_the_target_ends(self):
        port = self.start(self.server(lambda c: c.sendall(harness.read_exactly(c, 5))))
        peer = self.open(port)
        peer.send(b"hello")
        self.assertEqual(peer.message(), (ws.BINARY, b"hello"))
        self.assertEqual(peer.closed(), 1000)

    def test_the_client_ends(self):
        ended = []
        port = self.start(self.server(lambda c: ended.append(harness.read_all(c))))
        peer = self.open(port)
        peer.send(b"last words")
        peer.close(1001)
        self.assertEqual(peer.closed(), 1001)
        harness.until(lambda: ended == [b"last words"], 10, "the target's end")

    def test_bulk(self):
        port = self.start(self.server(harness.echo))
        peer = self.open(port)
        data = harness.noise(8 << 20)

        def send():
            for i in range(0, len(data), 50000):
                peer.send(data[i:i + 50000])

        sender = threading.Thread(target=send)
        sender.start()
        self.assertEqual(harness.digest(peer.bytes(len(data))), harness.digest(data))
        sender.join()


class LoopTest(BothBridges, BridgeCase):
    refusal = b""

    def start(self, origin, head_ms=10000):
        port = harness.free_port()
        with open(LOOP, encoding="ascii") as f:
            script = f.read()
        self.assertIn("head(10000)", script)
        self.daemon = self.cosockd(script.replace("head(10000)", f"head({head_ms})"), [f"127.0.0.1:{port}", f"127.0.0.1:{origin.port}"],
                                   listens=[port])
        return port


class BridgeTest(BothBridges, BridgeCase):
    def start(self, origin, head_ms=10000):
        return self.to(origin, f'handshake_timeout = "{head_ms}ms"')

    def test_targets(self):
        path = os.path.join(self.directory, "target.sock")
        a, b = self.server(lambda c: c.sendall(b"a")), self.server(lambda c: c.sendall(b"b"))
        self.server(lambda c: c.sendall(b"u"), path=path)
        port = self.bridge(f'targets = {{ ["/a"] = "127.0.0.1:{a.port}", ["/u"] = "unix:{path}" }}, '
                           f'tokens = {{ ["two words"] = "127.0.0.1:{b.port}" }}')
        self.assertEqual(self.open(port, "/a").message()[1], b"a")
        self.assertEqual(self.open(port, "/a?x=1").message()[1], b"a")
        self.assertEqual(self.open(port, "/u").message()[1], b"u")
        self.assertEqual(self.open(port, "/anything?token=two+words").message()[1], b"b")
        for target in ("/", "/A", "/a/", "/a?token=no", "/?token="):
            self.assertEqual(self.refused(port, target), 404, target)
        self.daemon.wait_log("info .*: 127.0.0.1: 404, no target for its path or token")

    def test_target_that_is_not_there(self):
        self.assertEqual(self.refused(self.bridge(f'target = "127.0.0.1:{harness.free_port()}"')), 502)
        self.daemon.wait_log("info .*: 127.0.0.1: 502, 127.0.0.1:\\d+: connection refused")

    def test_subprotocol_and_origin(self):
        origin = self.server(harness.echo)
        port = self.to(origin, 'origins = { "https://good.example" }')
        with self.connect(port) as s:
            _, answer = ws.connect(s, subprotocols=["mqtt", "binary"])
            self.assertEqual(answer["sec-websocket-protocol"], "mqtt")
        with self.connect(port) as s:
            _, answer = ws.connect(s, header=[("Origin", "https://good.example")])
            self.assertNotIn("sec-websocket-protocol", answer)
        self.assertEqual(self.refused(port, header=[("Origin", "https://bad.example")]), 403)

    def test_text(self):
        peer = self.open(self.to(self.server(harness.echo), "text = true"))
        peer.send(b"hello")
        self.assertEqual(peer.message(), (ws.TEXT, b"hello"))

    def test_not_a_websocket(self):
        port = self.to(self.server(harness.echo))
        for text, status in ((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426), (b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n", 400),
                             (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 400)):
            with self.connect(port) as s:
                s.sendall(text)
                self.assertIn(f" {status} ".encode(), harness.read_all(s).split(b"\r\n")[0])

    def test_a_frame_is_not_waited_for(self):
        """A gigabyte is promised: what comes of it goes on, the rest may never come."""
        got = []

        def origin(c):
            got.append(harness.read_exactly(c, 100000))
            harness.read_all(c)

        peer = self.open(self.to(self.server(origin)))
        data = harness.noise(100000)
        mask = b"\1\2\3\4"
        peer.raw(struct.pack(">BBQ", 0x82, 0xff, 1 << 30) + mask + ws.apply_mask(data, mask))
        harness.until(lambda: got, 10, "what has come")
        self.assertEqual(got[0], data)
        peer.end()

    def test_resets(self):
        ends = []

        def origin(c):
            if harness.read_exactly(c, 1) == b"r":
                return harness.reset(c)
            c.sendall(b"y")
            try:
                ends.append(harness.read_all(c))
            except ConnectionResetError:
                ends.append("reset")

        port = self.to(self.server(origin))
        peer = self.open(port)
        peer.send(b"r")
        with self.assertRaises((EOFError, ConnectionResetError)) as end:  # no Close: it is no proper end
            peer.frame()
        self.assertNotIn("Close", str(end.exception))
        peer = self.open(port)
        peer.send(b"x")
        self.assertEqual(peer.message()[1], b"y")
        harness.reset(peer.sock)
        harness.until(lambda: ends == ["reset"], 10, "a reset at the target")

    def test_a_connection_cut_within_a_frame(self):
        ends = []

        def origin(c):
            try:
                harness.read_all(c)
                ends.append("end")
            except ConnectionResetError:
                ends.append("reset")

        peer = self.open(self.to(self.server(origin)))
        peer.raw(ws.frame(b"not all of this", mask=b"abcd")[:-5])
        peer.end()
        harness.until(lambda: ends == ["reset"], 10, "a reset at the target")

    def test_a_client_that_closes_while_the_target_sends(self):
        over = []

        def origin(c):
            try:
                while True:
                    c.sendall(harness.noise(1 << 14))
            except OSError:
                over.append(True)

        port = self.to(self.server(origin))
        for _ in range(5):
            peer = self.open(port)
            peer.bytes(100000)
            peer.close(1000)
            self.assertEqual(peer.closed(), 1000)
        harness.until(lambda: len(over) == 5, 10, "the target's ends")

    def test_pings_keep_it_alive(self):
        peer = self.open(self.to(self.server(harness.echo), 'ping = "400ms"'))
        for _ in range(3):
            f = peer.frame()
            self.assertEqual(f.op, ws.PING)
            peer.send(f.payload, ws.PONG)
        peer.send(b"still there")
        self.assertEqual(peer.message()[1], b"still there")

    def test_pings_are_not_traffic(self):
        peer = self.open(self.to(self.server(harness.echo), 'ping = "400ms", idle_timeout = "2s"'))
        pings = 0
        while True:
            f = peer.frame()
            peer.send(f.payload, ws.CLOSE if f.op == ws.CLOSE else ws.PONG)
            if f.op == ws.CLOSE:
                break
            pings += 1
        self.assertGreater(pings, 0)

    def test_a_silent_client_is_given_up(self):
        ends = []

        def origin(c):
            try:
                ends.append(harness.read_all(c))
            except ConnectionResetError:
                ends.append("reset")

        peer = self.open(self.to(self.server(origin), 'ping = "100ms"'))
        self.assertEqual(peer.frame().op, ws.PING)
        harness.until(lambda: ends, 10, "the end at the target")

    def test_tls(self):
        self.need("openssl")
        certs = pki.Pki(os.path.join(self.directory, "pki"))
        cert, key = certs.issue("front.example")
        port = self.to(self.server(harness.echo), f'tls = {{ cert = "{cert}", key = "{key}" }}')
        context = ssl.create_default_context(cafile=certs.ca)
        with context.wrap_socket(self.connect(port), server_hostname="front.example") as s:
            peer, _ = ws.connect(s)
            data = harness.noise(300000)
            peer.send(data)
            self.assertEqual(peer.bytes(len(data)), data)
            peer.close()
            self.assertEqual(peer.closed(), 1000)

    def test_bad_configurations(self):
        for body, words in (("", "no target, targets or tokens"), ('target = "nowhere"', "is not an address"), ('target = ":1"', "names no host"),
                            ('target = "a:1", tagrets = {}', 'unknown key "tagrets"'), ('targets = { "a:1" }', "a name is missing"),
                            ('targets = { ["/x"] = 7 }', 'targets["/x"]'), ('target = "a:1", origins = { "example.com" }', "origins:"),
                            ('target = "a:1", ping = 30', "ping:"), ('target = "a:1", text = 1', "text:"),
                            ('target = "a:1", tls = { crt = "x" }', 'unknown key "crt"')):
            path = self.config(f'service "b" {{ script = "wsbridge.lua", listen = ":1", {body} }}\n')
            run = subprocess.run([harness.COSOCKD, "-t", "-c", path], capture_output=True, text=True, check=False, timeout=60)
            self.assertNotEqual(run.returncode, 0, body)
            self.assertIn(words, run.stderr + run.stdout, body)

    def test_node(self):
        node = self.need("node")
        port = self.to(self.server(harness.echo))
        script = self.write("client.js", """
const WebSocket = require("ws");
const url = process.argv[2];
const crypto = require("crypto");
let open = 0;
function one(i) {
  const socket = new WebSocket(url, ["binary"], {perMessageDeflate: true});
  const data = crypto.randomBytes(1 + i * 30011);
  let got = [];
  let n = 0;
  socket.on("open", () => { if (socket.protocol !== "binary") throw new Error("protocol"); socket.send(data); });
  socket.on("message", (part, binary) => {
    if (!binary) throw new Error("text");
    got.push(part);
    n += part.length;
    if (n === data.length) {
      if (Buffer.compare(Buffer.concat(got), data) !== 0) throw new Error("other bytes");
      socket.close(1000);
    }
  });
  socket.on("close", (code) => { if (code !== 1000) throw new Error("code " + code); if (--open === 0) console.log("done"); });
  open++;
}
for (let i = 0; i < 50; i++) one(i);
""")
        run = subprocess.run([node, script, f"ws://127.0.0.1:{port}/"], capture_output=True, text=True, timeout=60, check=False,
                             env={**os.environ, "NODE_PATH": "/usr/share/nodejs:/usr/lib/nodejs"})
        if "Cannot find module" in run.stderr:
            self.skipTest("node-ws is not installed")
        self.assertEqual((run.stdout, run.returncode), ("done\n", 0), run.stderr)

    def broker(self):
        """mosquitto: its ports for TCP and for WebSockets."""
        mosquitto = self.need("mosquitto")
        plain, own = harness.free_port(), harness.free_port()
        path = self.write("mosquitto.conf", f"listener {plain} 127.0.0.1\nlistener {own} 127.0.0.1\nprotocol websockets\n"
                                            "allow_anonymous true\npersistence false\n")
        broker = subprocess.Popen([mosquitto, "-c", path], preexec_fn=harness.die_with_parent, stderr=subprocess.DEVNULL)
        self.addCleanup(broker.wait)
        self.addCleanup(broker.terminate)
        harness.until(lambda: harness.listening(plain) and harness.listening(own), 10, "mosquitto listening")
        return plain, own

    def test_mqtt_over_websockets(self):
        """A client that speaks them itself."""
        try:
            from paho.mqtt import client as mqtt
        except ImportError:
            self.skipTest("python3-paho-mqtt is not installed")
        self.need("openssl")
        certs = pki.Pki(os.path.join(self.directory, "pki"))
        cert, key = certs.issue("localhost")
        plain, secure = harness.free_port(), harness.free_port()
        body = f'script = "wsbridge.lua", targets = {{ ["/mqtt"] = "127.0.0.1:{self.broker()[0]}" }}, subprotocols = {{ "mqtt" }}'
        self.service(f'service "ws" {{ {body}, listen = "127.0.0.1:{plain}" }}\n'
                     f'service "wss" {{ {body}, listen = "127.0.0.1:{secure}", tls = {{ cert = "{cert}", key = "{key}" }} }}\n', [plain, secure])
        version = {"callback_api_version": mqtt.CallbackAPIVersion.VERSION2} if hasattr(mqtt, "CallbackAPIVersion") else {}
        for port in (plain, secure):
            client, got = mqtt.Client(transport="websockets", **version), []
            client.ws_set_options(path="/mqtt")
            if port == secure:
                client.tls_set(certs.ca)
            client.on_message = lambda _client, _user, message, got=got: got.append(message.payload)
            client.connect("localhost", port)
            client.loop_start()
            harness.until(client.is_connected, 20, "the connection")
            client.subscribe("t", 1)
            sent = [harness.noise(size, size) for size in (0, 1, 125, 126, 5000, 100000)]
            for payload in sent:
                client.publish("t", payload, 1)
            harness.until(lambda got=got, sent=sent: got == sent, 20, "the messages")
            client.disconnect()
            client.loop_stop()

    def test_mqtt(self):
        """mosquitto's clients through a tunnel of our own and the bridge; and straight to mosquitto's own WebSocket listener."""
        subscribe, publish = self.need("mosquitto_sub", "mosquitto_pub")
        plain, own = self.broker()
        bridge = self.bridge(f'targets = {{ ["/mqtt"] = "127.0.0.1:{plain}" }}')
        for port in (bridge, own):
            front = harness.free_port()
            self.cosockd("""
local address = require "cosock.address"
local websocket = require "cosock.websocket"
local listen, port = ...
address.listen(listen, function(client)
  ba.socket.event(function()
    local peer = assert(ba.socket.connect("127.0.0.1", tonumber(port)))
    assert(websocket.connect(peer, "test", "/mqtt", {subprotocols = {"mqtt"}, required = true}))
    ba.socket.relay(client, peer, {detach = true})
  end)
end)
""", [f"127.0.0.1:{front}", port], listens=[front])
            where = ["-h", "127.0.0.1", "-p", str(front), "-t", "t"]
            with subprocess.Popen([subscribe, *where, "-C", "1"], stdout=subprocess.PIPE, preexec_fn=harness.die_with_parent) as listener:
                os.set_blocking(listener.stdout.fileno(), False)
                heard = []

                def hear():
                    subprocess.run([publish, *where, "-m", "through"], check=True, timeout=60)
                    heard.append(listener.stdout.read() or b"")
                    return b"through" in b"".join(heard)

                harness.until(hear, 20, "the message")
                listener.wait(20)


if __name__ == "__main__":
    harness.main()
