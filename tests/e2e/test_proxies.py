"""connect.lua and socks.lua, with curl; and require "httpc" through them and through other people's proxies, to nginx and to a WebSocket
server."""

import json
import os
import socket
import subprocess

import harness
import pki

# Does the requests of a JSON list with one client, and prints what came of each.
CLIENT = r"""
local plan = ba.json.decode(arg[1], false)
local create = plan.create
if plan.ca then
  local store = ba.create.certstore()
  assert(store:addcert {file = plan.ca})
  create.shark = ba.create.sharkssl(store)
  if plan.cert then create.shark:addcert(assert(ba.create.sharkcert {cert = plan.cert, key = plan.key})) end
end
local h <close> = require "httpc".create(create)
for _, op in ipairs(plan.requests) do
  local ok, err = h:request(op)
  if ok and op.upload then ok, err = h:write(("x"):rep(op.upload)) end
  local body = ok and h:read "a"
  print(ba.json.encode {ok = ok or false, err = err, status = ok and h:status(), body = body,
                        trusted = ok and h:trusted() or false, peer = ok and select(2, h:peername())})
end
"""


# Opens a WebSocket, has texts and bytes echoed, prints a line.
WEBSOCKET = r"""
local plan = ba.json.decode(arg[1])
local h = require "httpc".create(plan.create)
local ok, err = h:request {url = plan.url, header = {["Sec-WebSocket-Protocol"] = "other, chat"}}
if not ok then print("failed", err) os.exit(true) end
local line = h:status() .. " " .. tostring(h:header "sec-websocket-protocol")
local sock = assert(ba.socket.http2sock(h))
for _, size in ipairs {1, 125, 126, 8192, 65535} do
  for _, text in ipairs {true, false} do
    local data = ("x"):rep(size)
    assert(sock:write(data, text))
    local got, kind, read, whole = sock:read(10000)
    while read and read < whole do
      local more
      more, kind, read = sock:read(10000)
      got = got .. more
    end
    assert(got == data and kind == text, size)
  end
end
assert(sock:ping "hello")
sock:write("bye", true)
local data, why, code = sock:read(10000)
print(line, data, why, code)
"""

WEBSOCKET_SERVER = """
const {WebSocketServer} = require('ws');
const server = new WebSocketServer({host: '127.0.0.1', port: +process.argv[2],
                                    handleProtocols: offered => offered.has('chat') ? 'chat' : false});
server.on('connection', socket => socket.on('message', (data, binary) => {
    if (data.toString() === 'bye') socket.close(4001); else socket.send(data, {binary});
}));
"""


def nginx_tls(case, authority, cert, key, htpasswd):
    """nginx with TLS that wants a client certificate, and a user below /private; its port."""
    return harness.Nginx(case, options="ssl", server=f"""
        client_max_body_size 100k;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_client_certificate {authority};
        ssl_verify_client on;
        location / {{ return 200 "subject $ssl_client_s_dn"; }}
        location /private {{
            auth_basic "private";
            auth_basic_user_file {htpasswd};
            try_files $uri @hello;
        }}
        location @hello {{ return 200 "user $remote_user"; }}
        location /up {{ root {case.directory}; dav_methods PUT; create_full_put_path on; auth_basic "up"; auth_basic_user_file {htpasswd}; }}
""").port


class ProxyCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.nginx = harness.Nginx(self)
        self.nginx.file("page", b"a page")

    def script(self, name, extra="", destinations='"127.0.0.1:*"'):
        """connect.lua or socks.lua; this machine must be named."""
        port = harness.free_port()
        destinations = destinations.replace("127.0.0.1:*", f"127.0.0.1:{self.nginx.port}")
        self.service(f'service "proxy" {{ script = "{name}", listen = "127.0.0.1:{port}", destinations = {{ {destinations} }}, {extra} }}\n',
                     [port])
        return port

    def curl(self, *arguments):
        """Status, body, and curl's own exit status."""
        run = subprocess.run([self.need("curl"), "-sS", "--noproxy", "", "--max-time", "20", "-w", "|%{http_code}|%{http_connect}", *arguments],
                             capture_output=True, text=True, check=False)
        body, code, connect = run.stdout.rsplit("|", 2)
        return run.returncode, int(code), int(connect), body

    def start(self, port, *command, **options):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   preexec_fn=harness.die_with_parent, **options)
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.terminate)
        harness.until(lambda: harness.listening(port), 10, f"{command[0]} listening")

    def fetch(self, create=None, requests=(), **plan):
        """What CLIENT prints for each request."""
        plan = {"create": create or {"persistent": True}, "requests": list(requests), **plan}
        script = self.write("client.lua", CLIENT)
        d = self.run_cosockd([script, json.dumps(plan)])
        d.wait_exit(30)
        return [json.loads(line) for line in d.log().splitlines() if line.startswith("{")]

    def page(self):
        return f"http://127.0.0.1:{self.nginx.port}/page"


class ConnectTest(ProxyCase):
    def test_a_page(self):
        proxy = f"http://127.0.0.1:{self.script('connect.lua')}"
        self.assertEqual(self.curl("-px", proxy, self.page()), (0, 200, 200, "a page"))

    def test_users(self):
        port = self.script("connect.lua", 'users = { joe = "secret", ann = "" }')
        for user, code in (("joe:secret", 200), ("ann:", 200), ("joe:wrong", 407), ("eve:nil", 407), ("joe:", 407)):
            got = self.curl("-px", f"http://127.0.0.1:{port}", "-U", user, self.page())
            self.assertEqual(got[2], code, user)
        self.assertEqual(self.curl("-px", f"http://127.0.0.1:{port}", self.page())[2], 407)

    def test_refusals(self):
        dead = harness.free_port()
        port = self.script("connect.lua", destinations=f'"127.0.0.1:*", "127.0.0.1:{dead}", "*:{dead}"')
        proxy = f"http://127.0.0.1:{port}"
        self.assertEqual(self.curl("-px", proxy, f"http://127.0.0.1:{dead}/")[2], 502)
        self.assertEqual(self.curl("-px", proxy, "http://127.0.0.1:1/")[2], 403)
        for near in ("127.0.0.2", "[::1]", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "169.254.169.254"):
            self.assertEqual(self.curl("-px", proxy, f"http://{near}:{dead}/")[2], 403, near)
        self.assertEqual(self.curl("-x", proxy, self.page())[1], 405)
        for text, code in ((b"nonsense\r\n\r\n", b"400"), (b"CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
                           (b"CONNECT unix:/x:1 HTTP/1.1\r\nHost: x\r\n\r\n", b"400")):
            with self.connect(port) as s:
                s.sendall(text)
                self.assertIn(code, harness.read_all(s).split(b"\r\n")[0], text)
        for why in ("502, 127.0.0.1:\\d+: connection refused", "403, 127.0.0.1:1: not among the destinations",
                    "403, 127.0.0.2:\\d+: this machine, which", "405, only CONNECT"):
            self.daemons[-1].wait_log(f"info .*connect.lua:\\d+: 127.0.0.1: {why}")

    def test_the_machines_own_address(self):
        """Nobody means it by a pattern; known only once connected."""
        dead = harness.free_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, socket.create_server(("0.0.0.0", dead)):
            try:
                s.connect(("192.0.2.1", 9))
            except OSError as e:
                self.skipTest(f"this machine has no other address: {e}")
            own, wanted = s.getsockname()[0], f'"*:{dead}"'
            proxy = f"http://127.0.0.1:{self.script('connect.lua', destinations=wanted)}"
            self.assertEqual(self.curl("-px", proxy, f"http://{own}:{dead}/")[2], 403)

    def test_not_open_to_everybody(self):
        for name in ("connect.lua", "socks.lua"):
            port = harness.free_port()
            conf = self.write("open.lua", f'service "p" {{ script = "{harness.SCRIPTS}/{name}", listen = "0.0.0.0:{port}" }}\n')
            run = subprocess.run([harness.COSOCKD, "-t", "-c", conf], capture_output=True, text=True, check=False, timeout=90)
            self.assertNotEqual(run.returncode, 0)
            self.assertIn("open to everybody: give users or destinations", run.stderr)

    def test_what_follows_at_once(self):
        port = self.script("connect.lua")
        with self.connect(port) as s:
            s.sendall(f"CONNECT 127.0.0.1:{self.nginx.port} HTTP/1.1\r\nHost: x\r\n\r\nGET /page HTTP/1.0\r\n\r\n".encode())
            self.assertTrue(harness.read_all(s).endswith(b"\r\n\r\na page"))


class SocksTest(ProxyCase):
    def test_a_page(self):
        port = self.script("socks.lua", destinations='"127.0.0.1:*", "localhost:*", "*:1"'.replace("localhost:*", f"localhost:{self.nginx.port}"))
        self.assertEqual(self.curl("-x", f"socks5://127.0.0.1:{port}", self.page()), (0, 200, 0, "a page"))
        self.assertEqual(self.curl("-x", f"socks5h://127.0.0.1:{port}", f"http://localhost:{self.nginx.port}/page"), (0, 200, 0, "a page"))
        self.assertEqual(self.curl("-x", f"socks5h://127.0.0.1:{port}", "http://127.0.0.2:1/")[0], 97)

    def test_users(self):
        port = self.script("socks.lua", 'users = { joe = "secret" }')
        for user, code in (("joe:secret@", 0), ("joe:wrong@", 97), ("eve:nil@", 97), ("", 97)):
            self.assertEqual(self.curl("-x", f"socks5://{user}127.0.0.1:{port}", self.page())[0], code, user)
        for why in ("none of the users", "it offers no user and password"):
            self.daemons[-1].wait_log(f"info .*socks.lua:\\d+: 127.0.0.1: {why}")

    def talk(self, port, *pieces):
        """What comes back when all of it is sent at once."""
        with self.connect(port) as s:
            s.sendall(b"".join(pieces))
            return harness.read_all(s)

    def test_replies(self):
        dead = harness.free_port()
        port = self.script("socks.lua", destinations=f'"127.0.0.1:*", "127.0.0.1:{dead}", "*.invalid:*", "*:{dead}"')

        def request(address, number, command=1):
            return bytes([5, command, 0]) + address + number.to_bytes(2, "big")

        def name(text):
            return bytes([3, len(text)]) + text.encode()

        hello, here = b"\5\1\0", b"\1\x7f\0\0\1"
        nginx = self.nginx.port
        got = self.talk(port, hello, request(here, nginx), b"GET /page HTTP/1.0\r\n\r\n")
        self.assertEqual(got[:6], b"\5\0\5\0\0\1")
        self.assertTrue(got.endswith(b"a page"))
        for what, code in ((request(here, dead), 5), (request(here, 1), 2), (request(b"\1\x7f\0\0\2", dead), 2),
                           (request(b"\4" + bytes(15) + b"\1", dead), 2), (request(name("nobody.invalid"), 1), 4),
                           (request(here, nginx, 2), 7), (request(here, nginx, 3), 7), (b"\5\1\0\2", 8), (request(here, 0), 1),
                           (request(name("a b"), 1), 1), (request(name("unix:/x"), 1), 1)):
            self.assertEqual(self.talk(port, hello, what)[:4], bytes([5, 0, 5, code]), what)
        self.daemons[-1].wait_log(f"info .*: 127.0.0.1:{dead}: connection refused")
        self.assertEqual(self.talk(port, b"\5\1\2"), b"\5\xff")
        for nothing in (b"\4\1\0\x50\x7f\0\0\1\0", b"GET / HTTP/1.0\r\n\r\n"):
            self.assertEqual(self.talk(port, nothing), b"")

    def test_byte_by_byte(self):
        port = self.script("socks.lua", 'users = { joe = "secret" }')
        with self.connect(port) as s:
            s.setsockopt(6, 1, 1)
            for byte in (b"\5\1\2\1\3joe\6secret" + b"\5\1\0\1\x7f\0\0\1" + self.nginx.port.to_bytes(2, "big") + b"GET /page HTTP/1.0\r\n\r\n"):
                s.send(bytes([byte]))
            self.assertTrue(harness.read_all(s).endswith(b"a page"))


class HttpcTest(ProxyCase):
    def through(self, **create):
        got = self.fetch({"proxy": "127.0.0.1", **create}, [{"url": self.page()}, {"url": self.page(), "method": "HEAD"}])
        self.assertEqual([(r["status"], r.get("body")) for r in got], [(200, "a page"), (200, "")])

    def refused(self, error, **create):
        got = self.fetch({"proxy": "127.0.0.1", **create}, [{"url": self.page()}])
        self.assertEqual([(r["ok"], r["err"]) for r in got], [(False, error)])

    def test_our_proxies(self):
        port = self.script("connect.lua", 'users = { joe = "secret" }')
        self.through(proxyport=port, proxyuser="joe", proxypass="secret")
        self.refused(407, proxyport=port)

    def test_our_socks(self):
        port = self.script("socks.lua", 'users = { joe = "secret" }')
        self.through(proxyport=port, socks=True, proxyuser="joe", proxypass="secret")
        self.refused("proxyauth", proxyport=port, socks=True)
        self.refused("proxyauth", proxyport=port, socks=True, proxyuser="joe", proxypass="wrong")

    def test_tinyproxy(self):
        program, port = self.need("tinyproxy"), harness.free_port()
        path = self.write("tinyproxy.conf", f'Port {port}\nListen 127.0.0.1\nTimeout 20\nMaxClients 10\nBasicAuth joe secret\n'
                                            f'ConnectPort {self.nginx.port}\nLogFile "{self.directory}/tinyproxy.log"\n')
        self.start(port, program, "-d", "-c", path)
        self.through(proxyport=port, proxyuser="joe", proxypass="secret")
        self.refused(407, proxyport=port)

    def test_microsocks(self):
        program, port = self.need("microsocks"), harness.free_port()
        self.start(port, program, "-i", "127.0.0.1", "-p", str(port), "-u", "joe", "-P", "secret")
        self.through(proxyport=port, socks=True, proxyuser="joe", proxypass="secret")
        self.refused("proxyauth", proxyport=port, socks=True)
        self.refused("proxyauth", proxyport=port, socks=True, proxyuser="joe", proxypass="wrong")

    def test_tls_client_certificates_and_users(self):
        keys = pki.Pki(os.path.join(self.directory, "pki"))
        cert, key = keys.issue("localhost")
        client, client_key = keys.issue("client.example")
        hashed = pki.openssl("passwd", "-apr1", "secret").strip()
        port = nginx_tls(self, keys.ca, cert, key, self.write("htpasswd", f"joe:{hashed}\n"))
        base = f"https://localhost:{port}"
        login = {"user": "joe", "password": "secret"}
        got = self.fetch({"ipv6": False}, [
            {"url": base + "/", "trusted": True},
            {"url": base + "/private/x", **login}, {"url": base + "/private/x"},
            {"url": base + "/up/a", "method": "PUT", "size": 5, "upload": 5, **login},
            {"url": base + "/up/b", "method": "PUT", "upload": 70000, **login},
            {"url": base + "/up/c", "method": "PUT", "size": 20000000, "upload": 20000000, **login}, # more than fits on its way
        ], ca=keys.ca, cert=client, key=client_key)
        self.assertEqual([r.get("status") for r in got], [200, 200, 401, 201, 201, None])
        self.assertEqual(got[0]["body"], "subject CN=client.example")
        self.assertEqual(got[1]["body"], "user joe")
        self.assertEqual((got[5]["ok"], got[5]["err"]), (False, 413))
        self.assertTrue(all(r["trusted"] for r in got[:5]))
        self.assertEqual(os.path.getsize(f"{self.directory}/up/b"), 70000)
        stranger = self.fetch({"ipv6": False}, [{"url": base + "/"}], ca=keys.ca)
        self.assertEqual((stranger[0].get("status"), stranger[0]["ok"]), (400, True)) # nginx says it in HTTP

    def test_uploads_to_nginx(self):
        url = f"http://127.0.0.1:{self.nginx.port}/dir/"
        got = self.fetch(None, [{"url": url + "a", "method": "PUT", "upload": 3000000},
                                {"url": url + "b", "method": "PUT", "size": 3000000, "upload": 3000000},
                                {"url": url + "b"}, {"url": url + "none"}])
        self.assertEqual([r["status"] for r in got], [201, 201, 200, 404])
        self.assertEqual(got[2]["body"], "x" * 3000000)
        self.assertEqual(os.path.getsize(f"{self.nginx.root}/dir/a"), 3000000)


class WebSocketTest(ProxyCase):
    """http2sock and node's ws, directly and through proxies."""

    def setUp(self):
        super().setUp()
        self.environment = {"NODE_PATH": "/usr/share/nodejs"}
        env = {**os.environ, **self.environment}
        if subprocess.run([self.need("node"), "-e", "require('ws')"], env=env, capture_output=True, check=False).returncode != 0:
            self.skipTest("node's ws is not installed")
        self.node = harness.free_port()
        self.start(self.node, "node", self.write("server.js", WEBSOCKET_SERVER), str(self.node), env=env)

    def check(self, **create):
        plan = {"create": create or {"persistent": True}, "url": f"ws://127.0.0.1:{self.node}/"}
        d = self.run_cosockd([self.write("websocket.lua", WEBSOCKET), json.dumps(plan)])
        d.wait_exit(30)
        self.assertEqual(d.log().strip(), "101 chat\tnil\tsocketclosed\t4001")

    def test_directly(self):
        self.check()

    def test_through_connect(self):
        port = self.script("connect.lua", 'users = { joe = "secret" }', f'"127.0.0.1:{self.node}"')
        self.check(proxy="127.0.0.1", proxyport=port, proxyuser="joe", proxypass="secret")

    def test_through_socks(self):
        port = self.script("socks.lua", "", f'"127.0.0.1:{self.node}"')
        self.check(proxy="127.0.0.1", proxyport=port, socks=True)


if __name__ == "__main__":
    harness.main()
