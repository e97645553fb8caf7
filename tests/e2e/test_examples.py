"""docs/examples.md: what it shows is run as it stands, with only addresses and files changed."""

import http.client
import os
import re

import harness
import pki


def blocks():
    """Its Lua, in order: {name: script} and the configurations."""
    scripts, configurations = {}, []
    with open(os.path.join(harness.ROOT, "docs", "examples.md"), encoding="utf-8") as f:
        for text in re.findall(r"```lua\n(.*?)```", f.read(), re.S):
            name = re.match(r"-- (\w+\.lua)", text)
            if name:
                scripts[name.group(1)] = text
            else:
                configurations.append(text)
    return scripts, configurations


class ExamplesTest(harness.Case):
    def example(self, number, changes, listens):
        scripts, configurations = blocks()
        for name, text in scripts.items():
            self.write(name, text)
        for old in changes:
            self.assertEqual(configurations[number].count(old), 1, old)
        text = re.sub("|".join(map(re.escape, changes)), lambda found: changes[found.group()], configurations[number])
        return self.service(text, listens)

    def answer(self, port, host, body=None, **options):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20 * harness.SLOW)
        self.addCleanup(connection.close)
        connection.request("GET" if body is None else "POST", "/", body, {"Host": host}, **options)
        with connection.getresponse() as response:
            return response.status, response.read()

    def origin(self, name):
        """Answers with its name, and with the bytes that come behind a head."""
        def serve(c):
            data = b""
            while b"\r\n\r\n" not in data:
                data += c.recv(65536)
            if data.startswith(b"POST"):
                while not data.endswith(b"0\r\n\r\n"):
                    data += c.recv(65536)
            body = name.encode() + data.split(b"\r\n\r\n", 1)[1]
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)

        return f"127.0.0.1:{self.server(serve).port}"

    def test_http_by_host(self):
        port = harness.free_port()
        self.example(0, {":8000": f"127.0.0.1:{port}", "10.0.0.1:80": self.origin("www"), "10.0.0.2:80": f"127.0.0.1:{harness.free_port()}",
                         "10.0.0.3:80": self.origin("other")}, [port])
        self.assertEqual(self.answer(port, "www.example.com"), (200, b"www"))
        self.assertEqual(self.answer(port, "WWW.example.com:8000"), (200, b"www"))
        self.assertEqual(self.answer(port, "x.example.com"), (200, b"other"))
        self.assertEqual(self.answer(port, "api.example.com"), (502, b""))
        self.assertEqual(self.answer(port, "www.example.com", iter([b"abc"]), encode_chunked=True), (200, b"www3\r\nabc\r\n0\r\n\r\n"))

    def test_reverse_tunnel(self):
        self.need("openssl")
        authority = pki.Pki(os.path.join(self.directory, "pki"))
        (cert, key), (agent_cert, agent_key) = authority.issue("localhost"), authority.issue("agent.example")
        port, agents = harness.free_port(), harness.free_port()
        daemon = self.example(1, {
            '":2222"': f'"127.0.0.1:{port}"', '":7000"': f'"127.0.0.1:{agents}"', "gate.example.com:7000": f"localhost:{agents}",
            "127.0.0.1:22": f"127.0.0.1:{self.server(harness.echo).port}", "/etc/ssl/gate.pem": cert, "/etc/ssl/private/gate.key": key,
            'client_ca = "/etc/ssl/ca.pem"': f'client_ca = "{authority.ca}"', ' ca = "/etc/ssl/ca.pem"': f' ca = "{authority.ca}"',
            "/etc/ssl/agent.pem": agent_cert, "/etc/ssl/private/agent.key": agent_key},
                     [port, agents])
        daemon.leaves_connections = True  # those that wait for clients
        for number in range(3):
            clients = [self.client(port) for _ in range(4)]
            for seed, s in enumerate(clients):
                data = harness.noise(100_000, number * 4 + seed)
                s.sendall(data)
                self.assertEqual(harness.read_exactly(s, len(data)), data)
        self.assertEqual(self.reload().returncode, 0)
        clients[-1].sendall(b"still")
        self.assertEqual(harness.read_exactly(clients[-1], 5), b"still")
        self.client(port)

    def test_an_agent_whose_gate_is_not_there(self):
        """However often it tries, its coroutines do not grow."""
        agent = blocks()[0]["agent.lua"]
        self.assertEqual(agent.count("ba.sleep(1000)"), 1)
        self.write("agent.lua", agent.replace("ba.sleep(1000)", r'(trace("depth", select(2, debug.traceback():gsub("\n", ""))) or ba.sleep(1))'))
        daemon = self.service('service "agent" { script = "agent.lua", gate = "127.0.0.1:1", target = "127.0.0.1:1", spare = 1, tls = { verify = false } }')
        daemon.wait_log(r"depth\s+\d+$", count=8)
        self.assertLess(max(map(int, re.findall(r"depth\s+(\d+)$", daemon.log(), re.M))), 6)

    def client(self, port):
        """A connection through the tunnel, over which a byte has come back. Without a waiting connection the gate closes it."""
        def connected():
            s = self.connect(port)
            s.sendall(b"?")
            if s.recv(1):
                return s
            s.close()
            return None

        return harness.until(connected, 20, "a tunnel")


if __name__ == "__main__":
    harness.main()
