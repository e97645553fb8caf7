"""Listing 13 of the documents, old and new: the proxy."""

import subprocess
import time

import documents
import harness


class Listing13(harness.Case):
    name = "?"

    def start(self, upstream, **options):
        port = harness.free_port()
        text = documents.listing(self.name, **{"serverName,80": f"serverName,{upstream}", "bind(8080)": f"bind({port})"})
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
            while done < 4000 // harness.SLOW:
                requests, errors = harness.wrk(self, f"http://127.0.0.1:{port}/page", 2, 100, headers)
                self.assertEqual(errors, "")
                self.assertGreater(requests, 0)
                done += requests

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


if __name__ == "__main__":
    harness.main()
