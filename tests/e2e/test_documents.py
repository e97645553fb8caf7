"""The programs of the documents: listing 13 (old and new) and 12a, with only hosts and ports changed."""

import os
import re
import subprocess
import time

import harness


def listing(name, **changes):
    """The text of a listing with the given replacements; each must occur exactly once."""
    with open(os.path.join(harness.HERE, "documents", f"{name}.lua"), encoding="ascii") as f:
        text = f.read()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Listing13(harness.Case):
    name = "?"

    def start(self, upstream, **options):
        port = harness.free_port()
        text = listing(self.name, **{"serverName,80": f"serverName,{upstream}", "bind(8080)": f"bind({port})"})
        self.write("listing.lua", 'serverName = "127.0.0.1"\n' + text)
        return self.cosockd(f"{self.directory}/listing.lua", listens=[port], **options), port

    def http(self):
        nginx = harness.Nginx(self)
        daemon, port = self.start(nginx.port)
        return nginx, daemon, port

    def test_bodies_are_identical(self):
        nginx, _, port = self.http()
        curl = self.need("curl")
        for size in (0, 1, 65535, 65536, 65537, 20000003):
            body = harness.noise(size, size)
            nginx.file("body", body)
            got = subprocess.run([curl, "-sS", "--max-time", "60", f"http://127.0.0.1:{port}/body"],
                                 capture_output=True, check=False)
            self.assertEqual(harness.digest(got.stdout), harness.digest(body), got.stderr)
            self.write("upload", body)
            got = subprocess.run([curl, "-sS", "--max-time", "60", "-T", f"{self.directory}/upload",
                                  f"http://127.0.0.1:{port}/stored"], capture_output=True, check=False)
            self.assertEqual(got.returncode, 0, got.stderr)
            with open(f"{nginx.root}/stored", "rb") as f:
                self.assertEqual(harness.digest(f.read()), harness.digest(body))

    def test_thousands_of_requests(self):
        nginx, _, port = self.http()
        nginx.file("page", harness.noise(4000))
        for headers in ([], ["Connection: close"]):
            done = 0
            for _ in range(10):
                requests, errors = harness.wrk(self, f"http://127.0.0.1:{port}/page", 2, 100, headers)
                self.assertEqual(errors, "")
                done += requests
                if done >= 10000 // harness.SLOW:
                    break
            self.assertGreaterEqual(done, 10000 // harness.SLOW, headers)

    def test_the_accepted_side_ends_after_a_failed_connect(self):
        """Nobody can enable it any more: the collector ends it, in bounded time, in an idle process."""
        _, port = self.start(harness.free_port())
        s = self.connect(port, 30)
        begun = time.monotonic()
        self.assertTrue(harness.ended(s))
        self.assertLess(time.monotonic() - begun, 15 * harness.SLOW)

    def test_a_hundred_failed_connects(self):
        daemon, port = self.start(harness.free_port())
        clients = [self.connect(port, 30) for _ in range(100)]
        for s in clients:
            self.assertTrue(harness.ended(s))
        self.assertTrue(daemon.alive())


@harness.both_descriptor_kinds
class Listing13OldTest(Listing13):
    name = "listing13_old"

    def test_both_sides_close_when_one_closes(self):
        origin = self.server(harness.echo)
        _, port = self.start(origin.port)
        s = self.connect(port)
        s.sendall(b"x")
        self.assertEqual(s.recv(1), b"x")
        s.close()
        harness.until(lambda: not origin.connections, 10, "the origin's side closed")
        origin = self.server(lambda c: c.sendall(b"bye"))
        _, port = self.start(origin.port)
        with self.connect(port) as s:
            self.assertEqual(harness.read_all(s), b"bye")


@harness.both_descriptor_kinds
class Listing13NewTest(Listing13):
    name = "listing13_new"


del Listing13  # has no name of its own to run under


@harness.both_descriptor_kinds
class Listing12aTest(harness.Case):
    size = 20 << 20

    def start(self, sink, throttle=False):
        self.write("Large-Firmware.bin", harness.noise(self.size, 12))
        text = listing("listing12a", MySpecialService="127.0.0.1", **{"1234": str(sink.port)})
        if throttle:
            text = text.replace("-- sockA:read(300) --", "sockA:read(300) --")
        self.write("listing.lua", text)
        return self.service('service "firmware" { script = "listing.lua" }')

    def test_the_file_arrives_at_a_slow_sink(self):
        """Data from the sink is printed meanwhile, and memory stays flat."""
        seen = []
        memory = []

        def sink(connection):
            total = b""
            while len(total) < self.size:
                data = connection.recv(1 << 18)
                if not data:
                    break
                total += data
                if len(total) % 7 == 0:
                    memory.append(self.daemons[0].rss())
                if len(seen) == 0 and len(total) > self.size // 2:
                    seen.append("half")
                    connection.sendall(b"half of it is here")
                time.sleep(0.005)
            seen.append(harness.digest(total))

        daemon = self.start(self.server(sink))
        daemon.wait_log("half of it is here", 60)
        harness.until(lambda: len(seen) == 2, 60, "the whole file")
        self.assertEqual(seen[1], harness.digest(harness.noise(self.size, 12)))
        if memory and not harness.SANITIZER:
            self.assertLess(max(memory) - min(memory), 6 << 20, "memory grew with the file")

    def test_throttled(self):
        self.size = 5000
        seen = []
        begun = time.monotonic()

        def sink(connection):
            pieces, got = 0, 0
            while got < self.size:
                data = connection.recv(1 << 16)
                if not data:
                    break
                got += len(data)
                pieces += 1
            seen.append((got, pieces, time.monotonic() - begun))

        self.start(self.server(sink), throttle=True)
        harness.until(lambda: seen, 30, "the file")
        got, pieces, took = seen[0]
        self.assertEqual(got, self.size)
        self.assertGreaterEqual(took, 0.3 * (pieces - 1) - 0.05)

    def test_closing_the_sink_ends_both(self):
        connections = []

        def sink(connection):
            connections.append(connection)
            connection.recv(1 << 16)

        daemon = self.start(self.server(sink))
        harness.until(lambda: connections, 10, "the connection")
        time.sleep(0.2)
        before = daemon.cpu_seconds()
        time.sleep(0.5)
        self.assertLess(daemon.cpu_seconds() - before, 0.1 * harness.SLOW, "goes on without a peer")
        self.assertFalse(re.search("traceback", daemon.log()), daemon.log())


if __name__ == "__main__":
    harness.main()
