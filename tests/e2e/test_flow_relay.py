"""Tunnels of proxy.lua, which the engine moves: slow readers, half-closes, resets, idle ones."""

import os
import socket
import time

import harness
from flow import Flow


@harness.both_descriptor_kinds
class RelayFlowTest(Flow, harness.Case):
    def tunnel(self, origin_port):
        return self.proxy([origin_port])

    def test_half_close_by_the_client(self):
        self.assert_client_may_end_first(lambda port: self.tunnel(port)[1])

    def test_half_close_by_the_origin(self):
        self.assert_origin_may_end_first(lambda port: self.tunnel(port)[1])

    def until_still(self, counter):
        """Waits until bytes have moved and do so no more: what they move through is full."""
        seen = [0]

        def still():
            seen.append(self.status()["counters"][counter])
            return seen[-1] > 0 and seen[-1] == seen[-2]

        harness.until(still, 20, f"{counter} that stand still")

    def test_half_close_by_a_client_that_does_not_read(self):
        """While nothing can be moved to it, nothing is tried; when it reads, all comes."""
        data = harness.noise(24 << 20)

        def answer(connection):
            harness.read_all(connection)
            connection.sendall(data)

        _, port = self.tunnel(self.server(answer).port)
        with self.connect(port) as s:
            s.shutdown(socket.SHUT_WR)
            self.until_still("bytes_spliced")
            turns = [self.status()["counters"]["turns"] for _ in range(50)]
            self.assertLess(turns[-1] - turns[0], 5000, "it spins")
            self.assertEqual(harness.digest(harness.read_all(s)), harness.digest(data))

    def test_many_such_clients(self):
        """Each costs memory, not a thread of the kernel's."""
        data = harness.noise(1 << 20)

        def answer(connection):
            harness.read_all(connection)
            for _ in range(8):
                connection.sendall(data)

        without = [*filter(None, [self.environment.get("COSOCKD_WITHOUT")]), "splice"]
        d, port = self.proxy([self.server(answer).port], env={"COSOCKD_WITHOUT": ",".join(without)})
        clients = [self.connect(port) for _ in range(8)]
        for s in clients:
            s.shutdown(socket.SHUT_WR)
        self.until_still("bytes_out")
        threads = [open(f"/proc/{d.pid}/task/{t}/comm", encoding="ascii").read() for t in os.listdir(f"/proc/{d.pid}/task")]
        self.assertLess(sum(name.startswith("iou-wrk") for name in threads), 4)
        for s in clients:
            self.assertEqual(harness.digest(harness.read_all(s)), harness.digest(data * 8))

    def test_request_and_half_close_before_the_upstream_is_connected(self):
        origin = self.server(lambda c: c.sendall(harness.read_all(c)))
        _, port = self.tunnel(origin.port)
        for _ in range(50):
            with self.connect(port) as s:
                s.sendall(b"early")
                s.shutdown(socket.SHUT_WR)
                self.assertEqual(harness.read_all(s), b"early")

    def test_idle_timeout_ends_a_silent_tunnel(self):
        origin = self.server(harness.echo)
        _, port = self.proxy([origin.port], extra='idle_timeout = "1s"')
        with self.connect(port) as s:
            for _ in range(3):
                s.sendall(b"ping")
                self.assertEqual(harness.read_exactly(s, 4), b"ping")
                time.sleep(0.5)
            begun = time.monotonic()
            self.assertTrue(harness.ended(s))
            self.assertLess(time.monotonic() - begun, 5 * harness.SLOW)


if __name__ == "__main__":
    harness.main()
