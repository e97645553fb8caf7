"""Listing 12a of the documents: a large file goes out while answers come in."""

import re
import time

import documents
import harness


@harness.both_descriptor_kinds
class Listing12aTest(harness.Case):
    size = 20 << 20

    def start(self, sink, throttle=False):
        self.write("Large-Firmware.bin", harness.noise(self.size, 12))
        text = documents.listing("listing12a", MySpecialService="127.0.0.1", **{"1234": str(sink.port)})
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
