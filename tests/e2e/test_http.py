"""HTTP through proxy.lua: nginx behind it, curl and wrk in front."""

import os
import subprocess

import harness


@harness.both_descriptor_kinds
class HttpTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.curl = self.need("curl")
        self.nginx = harness.Nginx(self)
        self.daemon, self.port = self.proxy([self.nginx.port])

    def url(self, name):
        return f"http://127.0.0.1:{self.port}/{name}"

    def get(self, *arguments):
        run = subprocess.run([self.curl, "-sS", "--max-time", "60", *arguments], capture_output=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        return run.stdout

    def test_bodies_are_identical(self):
        sizes = [0, 1, 1023]
        for power in (11, 12, 14, 16, 17, 18):
            sizes += [(1 << power) - 1, 1 << power, (1 << power) + 1]
        for size in sizes + [3000001]:
            body = harness.noise(size, size)
            self.nginx.file("body", body)
            got = self.get(self.url("body"))
            self.assertEqual((len(got), harness.digest(got)), (size, harness.digest(body)))

    def test_uploads_are_identical(self):
        for size in (1, 65535, 65537, 5000001):
            body = harness.noise(size, size)
            self.write("upload", body)
            self.get("-T", f"{self.directory}/upload", self.url("stored"))
            with open(f"{self.nginx.root}/stored", "rb") as f:
                self.assertEqual(harness.digest(f.read()), harness.digest(body))

    def test_keep_alive(self):
        self.nginx.file("a", b"first")
        self.nginx.file("b", b"second")
        out = self.get("-w", "[%{num_connects}]", self.url("a"), self.url("b"))
        self.assertEqual(out, b"first[1]second[0]")

    def test_thousands_of_requests(self):
        self.nginx.file("page", harness.noise(4000))
        done = 0
        for _ in range(10):
            requests, errors = harness.wrk(self, self.url("page"), 2)
            self.assertEqual(errors, "")
            done += requests
            if done >= 10000:
                break
        self.assertGreaterEqual(done, 10000)

    def test_a_connection_per_request(self):
        self.nginx.file("page", harness.noise(4000))
        requests, errors = harness.wrk(self, self.url("page"), 2, headers=["Connection: close"])
        self.assertEqual(errors, "")
        self.assertGreater(requests, 200)
        harness.until(lambda: self.status()["connections"] == 0, 10, "no connection is left")
        status = self.status()
        self.assertEqual(status["detached_relays"], 0)
        counters = status["counters"]
        self.assertEqual((counters["accept_lost"], counters["script_errors"]), (0, 0))
        self.assertGreaterEqual(counters["accepted"], requests)


@harness.both_descriptor_kinds
class OtherFamiliesTest(harness.Case):
    """IPv6 and Unix sockets on either side."""

    def setUp(self):
        super().setUp()
        self.curl = self.need("curl")

    def test_ipv6_in_front(self):
        nginx = harness.Nginx(self)
        nginx.file("a", b"over six")
        port = harness.free_port()
        self.service(f'service "web" {{ script = "proxy.lua", listen = {{"[::1]:{port}", "127.0.0.1:{port}"}}, '
                     f'upstreams = {{"127.0.0.1:{nginx.port}"}} }}', [port])
        for host in ("[::1]", "127.0.0.1"):
            got = subprocess.run([self.curl, "-sS", f"http://{host}:{port}/a"], capture_output=True, check=False)
            self.assertEqual(got.stdout, b"over six", got.stderr)

    def test_unix_sockets_on_both_sides(self):
        nginx = harness.Nginx(self, listen=f"unix:{self.directory}/origin.sock")
        nginx.file("a", harness.noise(300000))
        front = f"{self.directory}/front.sock"
        d = self.service(f'service "web" {{ script = "proxy.lua", listen = {{"unix:{front}"}}, '
                         f'upstreams = {{"unix:{self.directory}/origin.sock"}} }}')
        harness.until(lambda: os.path.exists(front) or not d.alive(), 10, "the Unix socket")
        got = subprocess.run([self.curl, "-sS", "--unix-socket", front, "http://x/a"],
                             capture_output=True, check=False)
        self.assertEqual(harness.digest(got.stdout), harness.digest(harness.noise(300000)), got.stderr)


class OriginTest(harness.Case):
    """origin.lua, which has a parser of its own."""

    def test_lengths_that_are_none(self):
        port = harness.free_port()
        self.cosockd(f"{harness.SCRIPTS}/origin.lua", [f"127.0.0.1:{port}"], [port])
        for length in (b"-5", b"0x5", b"1.5", b"1e1", b"5, 5", b""):
            s = self.connect(port)
            s.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\n" % length)
            self.assertRegex(harness.read_all(s), rb"^HTTP/1\.1 400 [^\0]*understands\n$", length)


if __name__ == "__main__":
    harness.main()
