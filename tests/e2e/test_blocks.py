"""Mistakes in the blocks of the shipped scripts' services: refused, with the line, the service and the key."""

import subprocess

import harness

LISTEN = 'listen = "127.0.0.1:1"'
ADDRESS = r"is not an address"


class BlockTest(harness.Case):
    def check(self, text):
        return subprocess.run([harness.COSOCKD, "-t", "-c", self.config(text)], capture_output=True, text=True, check=False,
                              timeout=60 * harness.PATIENCE)

    def assert_refused(self, script, block, pattern):
        run = self.check(f'service "web" {{ script = "{script}.lua", {block} }}\n')
        self.assertEqual(run.returncode, 78, f"{block}\n{run.stderr}")
        self.assertRegex(run.stderr, rf'cosockd\.lua:\d+: service "web": .*{pattern}', block)
        self.assertNotRegex(run.stderr, r"attempt to|bad argument|table: 0x", block)

    def test_unknown_keys(self):
        upstream = f'{LISTEN}, upstreams = {{ "127.0.0.1:1" }}, '
        for script, good, wrong in (
                ("proxy", f"{LISTEN}, ", 'upstream = "127.0.0.1:1"'),
                ("proxy", upstream, 'idle_timout = "5m"'),
                ("tls", upstream, 'tsl = { cert = "x" }'),  # would have been served in the clear
                ("tls", upstream, 'conect_timeout = "1s"'),
                ("sni", f"{LISTEN}, default = {{ '127.0.0.1:1' }}, ", 'helo_timeout = "1s"'),
                ("udp", upstream, "session_max = 5"),
                ("echo", f"{LISTEN}, ", "lisen = 5"),
                ("connect", f"{LISTEN}, ", "user = {}"),
                ("socks", f"{LISTEN}, ", "destination = '*:*'"),
                ("origin", f"{LISTEN}, ", "root = '/srv'")):
            key = wrong.split(" ", maxsplit=1)[0]
            self.assert_refused(script, good + wrong, rf'unknown key "{key}" \(known: .*listen')

    def test_keys_inside(self):
        pool = f"{LISTEN}, upstreams = "
        for upstreams, pattern in (
                ('{ { "127.0.0.1:1", maxcon = 5 } }', r"upstreams: .*maxcon"),
                ('{ { "127.0.0.1:1", "127.0.0.1:2", maxconn = 5 } }', r"upstreams: .*key \"2\""),
                ('{ "127.0.0.1:1", weight = 5 }', r"upstreams: .*weight")):
            self.assert_refused("proxy", pool + upstreams, pattern)
        pool += '"127.0.0.1:1", tls = '
        for tls, pattern in (
                ('{ certs = { { crt = "x" } } }', r'tls: certs\[1\]: unknown key "crt"'),
                ('{ certs = { cert = "x" } }', r"certs: expected a list"),
                ('{ certs = "x" }', r"certs\[1\]: expected a table"),
                ('{ client_crl = "x" }', r"client_crl without client_ca")):
            self.assert_refused("tls", pool + tls, pattern)
        self.assert_refused("tls", f'{LISTEN}, upstreams = "127.0.0.1:1", upstream_tls = {{ key = "x" }}', "key without cert")

    def test_wrong_types(self):
        upstream = f'{LISTEN}, upstreams = "127.0.0.1:1"'
        for script, block, pattern in (
                ("connect", f"{LISTEN}, users = 'joe'", "users: expected a table"),
                ("socks", f"{LISTEN}, users = {{ 'joe' }}", "users: expected name = "),
                ("socks", f"{LISTEN}, users = {{ joe = 5 }}", "users: expected name = "),
                ("connect", f"{LISTEN}, destinations = '*'", "destinations: .*is not one"),
                ("connect", f"{LISTEN}, destinations = {{ 'a*:80', 5 }}", "destinations: .*is not one"),
                ("socks", f"{LISTEN}, destinations = {{ 'a:0' }}", "destinations: .*is not one"),
                ("socks", f"{LISTEN}, connect_timeout = 5", "connect_timeout: .*is not a duration"),
                ("socks", "", "listen: no address"),
                ("proxy", f"{LISTEN}, upstreams = 5", ADDRESS),
                ("proxy", f"{LISTEN}, upstreams = {{ {{}} }}", ADDRESS),
                ("proxy", f"{LISTEN}, upstreams = {{}}", "no upstreams"),
                ("proxy", LISTEN, "no upstreams"),
                ("proxy", f'{LISTEN}, upstreams = ":80"', "names no host"),
                ("proxy", 'upstreams = "127.0.0.1:1"', "listen: no address"),
                ("proxy", 'listen = 80, upstreams = "127.0.0.1:1"', f"listen: .*{ADDRESS}"),
                ("proxy", 'listen = "nowhere:80", upstreams = "127.0.0.1:1"', '"nowhere" is neither'),
                ("proxy", f"{upstream}, idle_timeout = 5", 'idle_timeout: "5" is not a duration'),
                ("proxy", f"{upstream}, balance = 1", "balance: expected"),
                ("tls", f"{upstream}", "neither tls nor upstream_tls"),
                ("tls", f"{upstream}, tls = true", "tls: expected a table"),
                ("tls", f"{upstream}, upstream_tls = 'yes'", "upstream_tls: expected a table"),
                ("tls", f"{upstream}, tls = {{ timeout = 5 }}", "timeout: .* is not a duration"),
                ("sni", f'{LISTEN}, routes = "127.0.0.1:1"', "routes: expected"),
                ("sni", f'{LISTEN}, routes = {{ "127.0.0.1:1" }}', "routes: expected"),
                ("sni", f"{LISTEN}, routes = {{ a = true }}", ADDRESS),
                ("sni", f"{LISTEN}, alpn = 1", "alpn: expected"),
                ("sni", LISTEN, "no routes and no default"),
                ("udp", f'{LISTEN}, upstreams = "unix:/x"', "not for UDP"),
                ("udp", 'listen = "unix:/x", upstreams = "127.0.0.1:1"', "not for UDP"),
                ("udp", 'listen = "nowhere:53", upstreams = "127.0.0.1:1"', '"nowhere" is neither'),
                ("udp", f'{upstream}, sessions_max = "5"', "sessions_max: expected a whole number"),
                ("echo", "listen = true", ADDRESS)):
            self.assert_refused(script, block, pattern)

    def test_one_upstream_needs_no_list(self):
        run = self.check(f'service "a" {{ script = "proxy.lua", {LISTEN}, upstreams = "127.0.0.1:1" }}\n'
                         f'service "b" {{ script = "udp.lua", {LISTEN}, upstreams = {{ "127.0.0.1:1", maxconn = 1 }} }}\n')
        self.assertEqual(run.returncode, 0, run.stderr)

    def test_the_folder_of_data(self):
        run = self.check(f'service "a" {{ script = "echo.lua", {LISTEN} }}\n')
        self.assertEqual(run.returncode, 0, run.stderr)
        path = self.write("file", "")
        for data_dir in (path, f"{self.directory}/missing"):
            run = self.check(f'data_dir = "{data_dir}"\nservice "a" {{ script = "echo.lua", {LISTEN} }}\n')
            self.assertEqual(run.returncode, 78)
            self.assertRegex(run.stderr, f"cosockd\\.lua:\\d+: data_dir: there is no folder {data_dir}")

    def test_an_own_script(self):
        """Whatever ends it while it loads: where it stands, whose it is, and where it happened."""
        for script, pattern in (
                ("x = = 1", r"own\.lua:1: unexpected symbol"),
                ("\nlocal x = nil + 1", r"own\.lua:2: attempt to perform arithmetic"),
                ("require 'nothing'", r"own\.lua:1: module 'nothing' not found"),
                ("local p = (...).port\nassert(ba.socket.bind(p))\nassert(ba.socket.bind(p))",
                 r"own\.lua:3: bind 0\.0\.0\.0:\d+: address already in use"),
                ("assert(ba.socket.udpcon((...).port))\nassert(ba.socket.udpcon((...).port))",
                 r"own\.lua:2: bind 0\.0\.0\.0:\d+: address already in use"),
                ("ba.socket.bind((...).port):event(function(l)\n l:acept() end)", r"own\.lua:2: .*'acept'"),
                ("ba.socket.event(function() error 'gone' end)", r"own\.lua:1: gone")):
            self.write("own.lua", script)
            run = self.check(f'\n\nservice "own" {{ script = "own.lua", port = {harness.free_port()} }}\n')
            self.assertRegex(run.stderr, rf'cosockd\.lua:\d+: service "own": .*{pattern}')
            self.assertNotEqual(run.returncode, 0)
            self.assertNotIn("stack traceback", run.stderr)


if __name__ == "__main__":
    harness.main()
