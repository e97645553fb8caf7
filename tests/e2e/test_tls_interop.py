"""TLS with others: openssl s_client and s_server in every combination, curl, nginx and HAProxy in front of the
daemon and behind it."""

import itertools
import os
import subprocess

import harness
import pki

# words: port, certificate files..., then name=value pairs
SERVER = """
local op, certs, port = {server = true}, {}, tonumber(arg[1])
for i = 2, #arg do
  local k, v = arg[i]:match "^(%a+)=(.*)$"
  if k then op[k] = v else certs[#certs + 1] = arg[i] end
end
local store
if op.ca then
  store = ba.create.certstore()
  assert(store:addcert {file = op.ca})
end
op.ca = nil
local shark = assert(ba.create.sharkssl(store, op))
for i = 1, #certs, 2 do shark:addcert(assert(ba.create.sharkcert {cert = certs[i], key = certs[i + 1]})) end
assert(ba.socket.bind(port, {intf = "127.0.0.1", shark = shark})):event(function(listener)
  for sock in listener.accept, listener do
    sock:event(function(s)
      local data = s:read()
      if not data then return end
      local suite, version = s:cipher()
      local chain = s:certificate()
      local peer = chain and chain[1].subject.commonname or "nobody"
      local text = ("%s %s %s %s %s"):format(version, suite, s:isresumed() and "resumed" or "new", s:alpn() or "-", peer)
      if data:find "HTTP" then
        text = ("HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n%s"):format(#text, text)
      end
      s:write(text)
    end, "s")
  end
end)
"""

# words: port to listen on (plain), host, port to originate TLS to, then name=value pairs
ORIGINATE = """
local op, connect, port = {}, {trusted = true, timeout = 20000}, tonumber(arg[1])
local cert
for i = 4, #arg do
  local k, v = arg[i]:match "^(%a+)=(.*)$"
  if k == "cert" then cert = v elseif k == "host" or k == "alpn" then connect[k] = v else op[k] = v end
end
local store = ba.create.certstore()
assert(store:addcert {file = op.ca})
op.ca = nil
local shark = assert(ba.create.sharkssl(store, op))
if cert then shark:addcert(assert(ba.create.sharkcert {cert = cert .. ".pem", key = cert .. ".key"})) end
connect.shark = shark
assert(ba.socket.bind(port, "127.0.0.1")):event(function(listener)
  for client in listener.accept, listener do
    ba.socket.event(function(up, client)
      local ok, err = ba.socket.connect(arg[2], arg[3], connect)
      if not ok then
        client:write("error " .. err)
        return client:close()
      end
      client:write(up:isresumed() and "resumed\\n" or "new\\n")
      ba.socket.relay(client, up, {detach = true})
    end, client)
  end
end)
"""


# Every session that openssl can have with the daemon, in both roles: version, key of the server's certificate, key of the
# client's (None: it shows none), and then the same once more, resumed.
MATRIX = list(itertools.product(("TLSv1.2", "TLSv1.3"), ("ec", "rsa"), (None, "ec", "rsa")))
FLAG = {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}


class TlsInterop(harness.Case):
    def setUp(self):
        super().setUp()
        self.openssl = self.need("openssl")
        self.pki = pki.Pki(os.path.join(self.directory, "pki"))
        self.port = harness.free_port()
        self.files = {kind: self.pki.issue("localhost", ["localhost", "127.0.0.1"], key=kind, file=kind)
                      for kind in ("ec", "rsa")}

    def serve(self, *words, kinds=("ec",)):
        files = [f for kind in kinds for f in self.files[kind]]
        return self.cosockd(SERVER, [self.port, *files, *words], [self.port])

    def s_client(self, *words):
        """A session with s_client, which stays until the daemon closes."""
        return subprocess.run([self.openssl, "s_client", "-connect", f"127.0.0.1:{self.port}", "-CAfile", self.pki.ca,
                               "-verify_return_error", "-servername", "localhost", "-quiet", *words],
                              input="hello\n", capture_output=True, text=True, timeout=30 * harness.PATIENCE, check=False)

    def ask(self, *words):
        """What the daemon says about such a session."""
        run = self.s_client(*words)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout.split()

    # ---- the daemon answers

    def test_s_client_matrix(self):
        clients = {kind: self.pki.issue("client.example", key=kind, file=f"client-{kind}") for kind in ("ec", "rsa")}
        self.serve(f"ca={self.pki.ca}", "clientcert=optional", kinds=("ec", "rsa"))
        ticket = os.path.join(self.directory, "session")
        algorithms = {"ec": "ECDSA+SHA256", "rsa": "RSA-PSS+SHA256:RSA+SHA256"}  # only one certificate can be meant
        for version, kind, client in MATRIX:
            with self.subTest(version=version, certificate=kind, client=client):
                words = [FLAG[version], "-sigalgs", algorithms[kind]]
                if client:
                    words += ["-client_sigalgs", algorithms[client], "-cert", clients[client][0], "-key", clients[client][1]]
                name = "client.example" if client else "nobody"
                said = self.ask(*words, "-sess_out", ticket)
                self.assertEqual([said[0], *said[2:]], [version, "new", "-", name])
                if version == "TLSv1.2":
                    self.assertIn(f"ECDHE_{'ECDSA' if kind == 'ec' else 'RSA'}_", said[1])
                said = self.ask(*words, "-sess_in", ticket)
                self.assertEqual([said[0], *said[2:]], [version, "resumed", "-", name])

    def test_ciphers_and_groups(self):
        self.serve()
        for words in (["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
                      ["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384", "-groups", "P-384"],
                      ["-tls1_3", "-groups", "P-521:P-256"],  # a HelloRetryRequest, or not
                      ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384", "-groups", "X25519:P-256"]):
            with self.subTest(words=words):
                self.assertEqual(self.ask(*words)[2], "new")
        for words in (["-tls1_1"], ["-tls1_2", "-cipher", "AES128-SHA"], ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"],
                      ["-tls1_2", "-sigalgs", "ECDSA+SHA1", "-cipher", "ECDHE:@SECLEVEL=0"]):
            with self.subTest(words=words):
                self.assertNotEqual(self.s_client(*words).returncode, 0)

    def test_a_client_without_the_curve_gets_rsa(self):
        self.serve(kinds=("ec", "rsa"))
        self.assertIn("ECDHE_RSA", self.ask("-tls1_2", "-groups", "X25519")[1])
        self.assertIn("ECDHE_ECDSA", self.ask("-tls1_2", "-groups", "X25519:P-256")[1])

    def test_client_certificates(self):
        cert, key = self.pki.issue("client.example")
        other = pki.Pki(os.path.join(self.directory, "other"), "Other CA").issue("client.example")
        self.serve(f"ca={self.pki.ca}")
        for flag in ("-tls1_2", "-tls1_3"):
            self.assertEqual(self.ask(flag, "-cert", cert, "-key", key)[4], "client.example")
            self.assertEqual(self.s_client(flag).stdout, "")
            self.assertEqual(self.s_client(flag, "-cert", other[0], "-key", other[1]).stdout, "")

    def test_alpn_and_curl(self):
        self.serve("alpn=http/1.1")
        self.assertEqual(self.ask("-alpn", "h2,http/1.1")[3], "http/1.1")
        curl = self.need("curl")
        for words in (["--tls-max", "1.2"], ["--tlsv1.3"], ["--http1.1"]):
            run = subprocess.run([curl, "-sS", "--cacert", self.pki.ca, *words, f"https://localhost:{self.port}/"],
                                 capture_output=True, text=True, timeout=30 * harness.PATIENCE, check=False)
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertEqual(run.stdout.split()[2:4], ["new", "http/1.1"])

    def test_renegotiation_is_refused(self):
        self.serve()
        run = subprocess.run([self.openssl, "s_client", "-connect", f"127.0.0.1:{self.port}", "-tls1_2", "-legacy_renegotiation"],
                             input="R\n", capture_output=True, text=True, timeout=30 * harness.PATIENCE, check=False)
        self.assertIn("RENEGOTIATING", run.stderr)
        self.assertNotEqual(run.returncode, 0)

    # ---- the daemon asks

    def s_server(self, *words):
        port = harness.free_port()
        process = subprocess.Popen([self.openssl, "s_server", "-accept", f"127.0.0.1:{port}", "-rev", "-quiet", *words],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   preexec_fn=harness.die_with_parent)
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.terminate)
        harness.until(lambda: harness.listening(port), 10, "s_server listening")
        return port

    def originate(self, upstream, *words):
        port = harness.free_port()
        self.cosockd(ORIGINATE, [port, "127.0.0.1", upstream, f"ca={self.pki.ca}", *words], [port])
        return port

    def through(self, port):
        """The first line of the daemon, and what s_server makes of `hello`."""
        with self.connect(port) as s, s.makefile("rwb") as f:
            first = f.readline().decode().strip()
            if first.startswith("error"):
                return first
            f.write(b"hello\n")
            f.flush()
            self.assertEqual(f.readline(), b"olleh\n")
            return first

    def test_s_server_matrix(self):
        clients = {kind: self.pki.issue("client.example", key=kind, file=f"client-{kind}")[0][:-4] for kind in ("ec", "rsa")}
        for version, kind, client in MATRIX:
            with self.subTest(version=version, certificate=kind, client=client):
                cert, key = self.files[kind]
                words = ["-Verify", "2", "-CAfile", self.pki.ca, "-verify_return_error"] if client else []
                upstream = self.s_server(FLAG[version], "-cert", cert, "-key", key, *words)
                port = self.originate(upstream, *([f"cert={clients[client]}"] if client else []))
                self.assertEqual(self.through(port), "new")
                self.assertEqual(self.through(port), "resumed")

    def test_untrusted_peers_are_refused(self):
        other = pki.Pki(os.path.join(self.directory, "other"), "Other CA").issue("localhost", ["127.0.0.1"])
        old = self.pki.issue("old", ["127.0.0.1"], days=-1)
        for cert, key in (other, old, self.pki.issue("elsewhere.example")):
            port = self.originate(self.s_server("-cert", cert, "-key", key))
            self.assertEqual(self.through(port), "error sslnottrusted")

    # ---- nginx and HAProxy behind the daemon, and in front of it

    def nginx(self, options, location):
        return harness.Nginx(self, options=options, server=f"""
        ssl_certificate {self.files["ec"][0]};
        ssl_certificate_key {self.files["ec"][1]};
        location / {{ {location} }}""").port

    def haproxy(self, bind, server):
        port = harness.free_port()
        both = os.path.join(self.directory, "both.pem")
        with open(both, "w", encoding="ascii") as out:
            for name in self.files["rsa"]:
                with open(name, encoding="ascii") as part:
                    out.write(part.read())
        path = self.write(f"haproxy{port}.cfg", f"""\
global
    maxconn 100
defaults
    mode tcp
    timeout connect 10s
    timeout client 30s
    timeout server 30s
listen x
    bind 127.0.0.1:{port} {bind.format(both=both)}
    server s {server}
""")
        process = subprocess.Popen([self.need("haproxy"), "-db", "-f", path], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=harness.die_with_parent)
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.terminate)
        harness.until(lambda: harness.listening(port), 10, "HAProxy listening")
        return port

    def get(self, port, request=b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"):
        with self.connect(port) as s:
            s.sendall(request)
            return harness.read_all(s)

    def test_nginx(self):
        port = self.originate(self.nginx("ssl", 'return 200 "by nginx";'))
        self.assertTrue(self.get(port).endswith(b"by nginx"))
        self.serve()
        front = self.nginx("", f"proxy_pass https://127.0.0.1:{self.port}; proxy_ssl_verify on; "
                               f"proxy_ssl_trusted_certificate {self.pki.ca}; proxy_ssl_name localhost;")
        self.assertIn(b" new ", self.get(front))
        self.assertIn(b" resumed ", self.get(front))

    def test_haproxy(self):
        self.need("haproxy")
        echo = self.server(harness.echo).port
        port = self.originate(self.haproxy("ssl crt {both}", f"127.0.0.1:{echo}"))
        data = harness.noise(300000)
        with self.connect(port) as s:
            s.sendall(data)
            self.assertEqual(harness.read_exactly(s, 4 + len(data)), b"new\n" + data)
        self.serve()
        front = self.haproxy("", f"127.0.0.1:{self.port} ssl verify required ca-file {self.pki.ca} verifyhost localhost")
        with self.connect(front) as s:
            s.sendall(b"hello\n")
            self.assertIn(b"TLSv1.3", harness.read_all(s))


if __name__ == "__main__":
    harness.main()
