"""Upstreams that refuse, do not answer, have no address, or come later."""

import contextlib
import socket
import time

import harness


@harness.both_descriptor_kinds
class UpstreamTest(harness.Case):
    def unreachable(self):
        """A port on which connecting never ends: its queue is full and nobody accepts."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", harness.free_port()))
        listener.listen(0)
        self.addCleanup(listener.close)
        for _ in range(4):
            s = socket.socket()
            s.setblocking(False)
            self.addCleanup(s.close)
            with contextlib.suppress(BlockingIOError):
                s.connect(listener.getsockname())
        probe = socket.socket()
        self.addCleanup(probe.close)
        probe.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            probe.connect(listener.getsockname())
        return listener.getsockname()[1]

    def assert_closed(self, port, low, high):
        """The client's connection ends without a byte, after low to high seconds."""
        begun = time.monotonic()
        with self.connect(port) as s:
            self.assertTrue(harness.ended(s))
        took = time.monotonic() - begun
        self.assertGreaterEqual(took, low)
        self.assertLess(took, high * harness.SLOW)

    def test_refused(self):
        daemon, port = self.proxy([harness.free_port()])
        for _ in range(5):
            self.assert_closed(port, 0, 3)
        self.assertTrue(daemon.alive())

    def test_the_next_upstream_takes_over(self):
        origin = self.server(harness.echo)
        _, port = self.proxy([harness.free_port(), origin.port, harness.free_port()])
        for _ in range(30):
            self.assert_echo(port)

    def test_requests_are_spread_over_the_upstreams(self):
        origins = [self.server(harness.echo) for _ in range(3)]
        _, port = self.proxy([o.port for o in origins])
        for _ in range(30):
            self.assert_echo(port)
        counts = [o.accepted for o in origins]
        self.assertEqual(sum(counts), 30)
        self.assertGreaterEqual(min(counts), 5, counts)

    def test_unreachable(self):
        _, port = self.proxy([self.unreachable()], extra='connect_timeout = "500ms"')
        self.assert_closed(port, 0.4, 4)

    def test_unreachable_then_the_next(self):
        origin = self.server(harness.echo)
        _, port = self.proxy([self.unreachable(), origin.port], extra='connect_timeout = "300ms"')
        for _ in range(4):
            self.assert_echo(port)

    def test_others_do_not_wait_for_an_unreachable_one(self):
        origin = self.server(harness.echo)
        stuck, fine = harness.free_port(), harness.free_port()
        self.service(f"""
            service "stuck" {{ script = "proxy.lua", listen = {{"127.0.0.1:{stuck}"}},
                upstreams = {{"127.0.0.1:{self.unreachable()}"}}, connect_timeout = "3s" }}
            service "fine" {{ script = "proxy.lua", listen = {{"127.0.0.1:{fine}"}},
                upstreams = {{"127.0.0.1:{origin.port}"}} }}""", [stuck, fine])
        waiting = [self.connect(stuck) for _ in range(20)]
        begun = time.monotonic()
        for _ in range(20):
            self.assert_echo(fine)
        self.assertLess(time.monotonic() - begun, 2 * harness.SLOW)
        for s in waiting:
            self.assertTrue(harness.ended(s))

    def test_upstream_comes_later(self):
        later = harness.free_port()
        _, port = self.proxy([later])
        self.assert_closed(port, 0, 3)
        self.server(harness.echo, port=later)
        self.assert_echo(port)


class NameTest(harness.Case):
    def proxy_with(self, dns, name, extra="", more=()):
        return self.proxy([name, *more], extra, env={"COSOCKD_DNS": f"127.0.0.1:{dns.port}"})

    def test_a_name_that_resolves(self):
        origin = self.server(harness.echo)
        dns = self.dns({"origin.test": ["127.0.0.1"]})
        _, port = self.proxy_with(dns, f"origin.test:{origin.port}")
        for _ in range(10):
            self.assert_echo(port)
        self.assertIn("origin.test", dns.asked)

    def test_a_name_that_does_not_resolve(self):
        dns = self.dns()
        daemon, port = self.proxy_with(dns, "no-such-name.test:80")
        with self.connect(port) as s:
            self.assertTrue(harness.ended(s))
        daemon.wait_log(r"no-such-name\.test")
        self.assertTrue(daemon.alive())

    def test_the_next_upstream_takes_over(self):
        origin = self.server(harness.echo)
        dns = self.dns()
        _, port = self.proxy_with(dns, "no-such-name.test:80", more=[f"127.0.0.1:{origin.port}"])
        for _ in range(6):
            self.assert_echo(port)

    def test_a_name_server_that_is_silent(self):
        origin = self.server(harness.echo)
        dns = self.dns(silent=["slow.test"])
        _, port = self.proxy_with(dns, "slow.test:80", 'connect_timeout = "500ms"')
        begun = time.monotonic()
        with self.connect(port) as s:
            self.assertTrue(harness.ended(s))
        self.assertLess(time.monotonic() - begun, 5 * harness.SLOW)
        self.assertGreaterEqual(time.monotonic() - begun, 0.3)
        self.assertEqual(origin.accepted, 0)

    def test_the_second_address_of_a_name(self):
        """Nothing listens on the first one."""
        origin = self.server(harness.echo)
        dns = self.dns({"two.test": ["127.0.0.77", "127.0.0.1"]})
        _, port = self.proxy_with(dns, f"two.test:{origin.port}")
        for _ in range(5):
            self.assert_echo(port)

    def test_numeric_addresses_need_no_name_server(self):
        origin = self.server(harness.echo)
        dns = self.dns()
        _, port = self.proxy_with(dns, f"127.0.0.1:{origin.port}")
        self.assert_echo(port)
        self.assertEqual(dns.asked, [])


if __name__ == "__main__":
    harness.main()
