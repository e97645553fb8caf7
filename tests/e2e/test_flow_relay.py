"""Tunnels of proxy.lua, which the engine moves: slow readers, half-closes, resets, idle ones."""

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
