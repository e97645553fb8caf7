"""sni.lua: TLS connections are routed by name and protocol, and arrive as they were sent."""

import os
import socket
import ssl
import subprocess
import threading

import harness
import pki


class TlsServer:
    """Says its own name to whoever completes a handshake, then echoes. The harness closes it."""

    def __init__(self, name, cert, key, alpn=()):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        if alpn:
            self.context.set_alpn_protocols(list(alpn))
        self.server = harness.Server(lambda connection: self.serve(connection, name))
        self.port = self.server.port

    def serve(self, connection, name):
        try:
            with self.context.wrap_socket(connection, server_side=True) as s:
                s.sendall(name.encode())
                while data := s.recv(65536):
                    s.sendall(data)
        except (ssl.SSLError, ConnectionError):
            pass

    def close(self):
        self.server.close()


def offer(server_name=None, alpn=()):
    """A client's handshake without a socket: (object, what comes in, what goes out)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    return context.wrap_bio(incoming, outgoing, server_hostname=server_name), incoming, outgoing


def hello(server_name=None, alpn=()):
    """The bytes of a ClientHello."""
    client, _, outgoing = offer(server_name, alpn)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


class SniTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.need("openssl")
        self.pki = pki.Pki(os.path.join(self.directory, "pki"))
        self.backends = {}

    def backend(self, name, alpn=()):
        b = TlsServer(name, *self.pki.issue(name), alpn=alpn)
        self.servers.append(b)
        self.backends[name] = b
        return f"127.0.0.1:{b.port}"

    def router(self, body):
        self.port = harness.free_port()
        return self.service(f'service "tls" {{ script = "sni.lua", listen = "127.0.0.1:{self.port}", {body} }}\n',
                            [self.port])

    def usual(self, extra=""):
        return self.router(f'routes = {{ ["a.example"] = "{self.backend("a")}", '
                           f'["*.b.example"] = "{self.backend("b")}", '
                           f'["*.deep.b.example"] = "{self.backend("deep")}" }}, {extra}')

    def ask(self, server_name, alpn=(), send=None):
        """Who answers to this name; send(sock, bytes) may cut what the client sends."""
        client, incoming, outgoing = offer(server_name, alpn)
        with self.connect(self.port) as s:
            while True:
                try:
                    return client.read(100).decode()
                except ssl.SSLWantReadError:
                    if data := outgoing.read():
                        (send or socket.socket.sendall)(s, data)
                    data = s.recv(65536)
                    if not data:
                        raise EOFError("closed") from None
                    incoming.write(data)

    def test_by_name(self):
        self.usual()
        self.assertEqual(self.ask("a.example"), "a")
        self.assertEqual(self.ask("A.Example"), "a")
        self.assertEqual(self.ask("x.b.example"), "b")
        self.assertEqual(self.ask("y.x.b.example"), "b")
        self.assertEqual(self.ask("x.deep.b.example"), "deep")

    def test_by_protocol_first(self):
        self.router(f'routes = {{ ["a.example"] = "{self.backend("a")}" }}, '
                    f'alpn = {{ ["acme-tls/1"] = "{self.backend("acme", ["acme-tls/1"])}" }}')
        self.assertEqual(self.ask("a.example", ["acme-tls/1"]), "acme")
        self.assertEqual(self.ask("a.example", ["h2", "http/1.1"]), "a")

    def test_default(self):
        self.usual(f'default = "{self.backend("rest")}"')
        self.assertEqual(self.ask("unknown.example"), "rest")
        self.assertEqual(self.ask("b.example"), "rest")
        self.assertEqual(self.ask(None), "rest")
        self.assertEqual(self.ask("a.example"), "a")

    def test_an_unknown_name_gets_an_alert(self):
        d = self.usual()
        for name in ("unknown.example", None):
            with self.assertRaisesRegex(ssl.SSLError, "UNRECOGNIZED_NAME"):
                self.ask(name)
        d.wait_log("no route for unknown.example")

    def test_byte_by_byte(self):
        self.usual()

        def drip(s, data):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(data)):
                s.sendall(data[i:i + 1])

        self.assertEqual(self.ask("a.example", send=drip), "a")

    def test_a_hello_in_many_records(self):
        """What the upstream gets is what was sent, record by record."""
        got = []
        done = threading.Event()

        def keep(connection):
            got.append(harness.read_all(connection))
            done.set()

        self.router(f'default = "127.0.0.1:{self.server(keep).port}"')
        message = hello("a.example", ["h2"])[5:]
        sent = b"".join(b"\x16\x03\x01\x00\x07" + message[i:i + 7] for i in range(0, len(message) - 7, 7))
        rest = message[len(sent) // 12 * 7:]
        sent += b"\x16\x03\x01" + len(rest).to_bytes(2, "big") + rest + b"whatever comes next"
        with self.connect(self.port) as s:
            s.sendall(sent)
            s.shutdown(socket.SHUT_WR)
            self.assertTrue(done.wait(20))
        self.assertEqual(got, [sent])

    def test_no_tls(self):
        d = self.usual(f'default = "{self.backend("rest")}"')
        for rubbish in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", b"\x00"):
            with self.connect(self.port) as s:
                s.sendall(rubbish)
                self.assertEqual(harness.read_all(s), b"")
        d.wait_log("127.0.0.1: notssl", count=2)
        d.wait_log("127.0.0.1: sslhandshake")

    def test_a_client_that_says_nothing_is_closed(self):
        d = self.usual('hello_timeout = "100ms"')
        with self.connect(self.port) as silent, self.connect(self.port) as slow:
            slow.sendall(hello("a.example")[:100])
            self.assertEqual(harness.read_all(silent), b"")
            self.assertEqual(harness.read_all(slow), b"")
        d.wait_log("127.0.0.1: timeout", count=2)

    def test_the_next_upstream_when_one_refuses(self):
        dead = harness.free_port()
        self.router(f'routes = {{ ["a.example"] = {{ "127.0.0.1:{dead}", "{self.backend("a")}" }} }}')
        for _ in range(3):
            self.assertEqual(self.ask("a.example"), "a")

    def test_openssl_and_nginx(self):
        """Other stacks at both ends; the certificate that the client sees is the upstream's."""
        nginx = self.need("nginx")
        ports = {name: harness.free_port() for name in ("one.example", "two.example")}
        servers = ""
        for name, port in ports.items():
            cert, key = self.pki.issue(name)
            servers += (f"server {{ listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.2 TLSv1.3;\n"
                        f"ssl_certificate {cert}; ssl_certificate_key {key};\n"
                        f'location / {{ return 200 "this is {name}"; }} }}\n')
        conf = self.write("nginx.conf", f"""daemon off; master_process off; pid {self.directory}/nginx.pid;
{"user root;" if os.geteuid() == 0 else ""} error_log {self.directory}/nginx.log;
events {{ worker_connections 64; }}
http {{ access_log off; {" ".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in
                                 ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))}
{servers} }}
""")
        process = subprocess.Popen([nginx, "-c", conf, "-e", f"{self.directory}/nginx.log"], stdin=subprocess.DEVNULL,
                                   preexec_fn=harness.die_with_parent)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        harness.until(lambda: all(map(harness.listening, ports.values())), 10, "nginx listening")
        routes = ", ".join(f'["{name}"] = "127.0.0.1:{port}"' for name, port in ports.items())
        self.router(f"routes = {{ {routes} }}")
        for name in ports:
            for version in ("-tls1_2", "-tls1_3"):
                out = pki.openssl("s_client", "-connect", f"127.0.0.1:{self.port}", "-servername", name, version,
                                  "-CAfile", self.pki.ca, "-verify_return_error", "-verify_hostname", name, "-quiet",
                                  stdin=f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")
                self.assertIn(f"this is {name}", out)

    def test_mistakes(self):
        for body, what in (("", "no routes and no default"),
                           ('routes = { ["a b"] = "127.0.0.1:1" }', "neither a name"),
                           ('routes = { ["*"] = "127.0.0.1:1" }', "neither a name"),
                           ('routes = { ["a.*.b"] = "127.0.0.1:1" }', "neither a name"),
                           ('routes = { a = "nonsense" }', "is not an address"),
                           ('default = "127.0.0.1:1", hello_timeout = "soon"', "is not a duration")):
            path = self.config(f'service "tls" {{ script = "sni.lua", listen = ":1", {body} }}\n')
            run = subprocess.run([harness.COSOCKD, "-t", "-c", path], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 78, body)
            self.assertIn(what, run.stderr)


if __name__ == "__main__":
    harness.main()
