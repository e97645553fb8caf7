"""proxy.lua's choice of an upstream: fewest connections, a maximum for each, failed ones last."""

import harness


def named(name):
    """An origin that says its name first, then echoes."""
    def handler(connection):
        connection.sendall(name)
        harness.echo(connection)
    return handler


class BalanceTest(harness.Case):
    def balanced(self, upstreams, extra=""):
        """upstreams: the entries as Lua text."""
        port = harness.free_port()
        self.service(f'service "web" {{ script = "proxy.lua", listen = "127.0.0.1:{port}", '
                     f'upstreams = {{ {", ".join(upstreams)} }}, {extra} }}', [port])
        return port

    def origins(self, names):
        """Origins of these one-letter names, and their entries."""
        servers = [self.server(named(n.encode())) for n in names]
        return [f"127.0.0.1:{s.port}" for s in servers]

    def tunnel(self, port):
        """A connection that has gone through, and which origin it went to."""
        s = self.connect(port)
        return s, harness.read_exactly(s, 1).decode()

    def relays(self, count):
        """Waits until so many tunnels are left."""
        harness.until(lambda: self.status()["detached_relays"] == count, 10, f"{count} tunnels")

    def test_roundrobin_takes_turns(self):
        port = self.balanced([f'"{o}"' for o in self.origins("abc")])
        self.assertEqual("".join(self.tunnel(port)[1] for _ in range(6)), "abcabc")

    def test_leastconn_fills_up_the_emptiest(self):
        port = self.balanced([f'"{o}"' for o in self.origins("abc")], 'balance = "leastconn"')
        held = [self.tunnel(port) for _ in range(9)]
        self.assertEqual("".join(sorted(name for _, name in held)), "aaabbbccc")
        for s, name in held:
            if name == "b":
                s.close()
        self.relays(6)
        self.assertEqual("".join(self.tunnel(port)[1] for _ in range(3)), "bbb")

    def test_an_upstream_gets_its_maximum_and_no_more(self):
        a, b = self.origins("ab")
        port = self.balanced([f'{{"{a}", maxconn = 2}}', f'{{"{b}", maxconn = 5}}'])
        self.assertEqual("".join(sorted(self.tunnel(port)[1] for _ in range(7))), "aabbbbb")

    def test_who_comes_too_much_waits_for_a_place(self):
        port = self.balanced([f'{{"{o}", maxconn = 1}}' for o in self.origins("ab")], 'queue_timeout = "1h"')
        held = dict(reversed(self.tunnel(port)) for _ in range(2))
        self.assertEqual(sorted(held), ["a", "b"])
        waiting = []
        for i in range(3):
            waiting.append(self.connect(port))
            harness.until(lambda: self.status()["generations"][0]["sockets"] == i + 1, 10, "one more in the queue")
        held["b"].close()
        self.assertEqual(harness.read_exactly(waiting[0], 1), b"b")
        held["a"].close()
        self.assertEqual(harness.read_exactly(waiting[1], 1), b"a")
        waiting[1].close()
        self.assertEqual(harness.read_exactly(waiting[2], 1), b"a")

    def test_the_wait_has_an_end(self):
        port = self.balanced([f'{{"{o}", maxconn = 1}}' for o in self.origins("a")], 'queue_timeout = "100ms"')
        first, _ = self.tunnel(port)
        self.assertTrue(harness.ended(self.connect(port)))
        self.daemons[0].wait_log(r"every upstream has its maxconn")
        first.close()
        self.relays(0)
        self.assertEqual(self.tunnel(port)[1], "a")

    def test_no_wait_at_all(self):
        port = self.balanced([f'{{"{o}", maxconn = 1}}' for o in self.origins("a")], 'queue_timeout = "0"')
        first, _ = self.tunnel(port)
        self.assertTrue(harness.ended(self.connect(port)))
        first.close()
        self.relays(0)
        self.assertEqual(self.tunnel(port)[1], "a")

    def test_places_come_back_when_an_upstream_fails(self):
        dead = harness.free_port()
        port = self.balanced([f'{{"127.0.0.1:{dead}", maxconn = 1}}'], 'fail_timeout = "1h"')
        for _ in range(5):
            self.assertTrue(harness.ended(self.connect(port)))
        self.server(named(b"z"), port=dead)
        self.assertEqual(self.tunnel(port)[1], "z")  # down counts last, not never

    def test_who_failed_lately_comes_last(self):
        dead = harness.free_port()
        origin = self.origins("a")[0]
        port = self.balanced([f'"127.0.0.1:{dead}"', f'"{origin}"'], 'balance = "leastconn", fail_timeout = "1h"')
        self.assertEqual(self.tunnel(port)[1], "a")
        self.daemons[0].wait_log(rf"warn service=web .*upstream 127\.0\.0\.1:{dead}: cannotconnect: connection refused")
        late = self.server(named(b"z"), port=dead)
        self.assertEqual("".join(self.tunnel(port)[1] for _ in range(5)), "aaaaa")
        self.assertEqual(late.accepted, 0)

    def test_mistakes_are_named(self):
        for entries, extra, message in (
                ('{"127.0.0.1:1", maxconn = -1}', "", r"upstream 127\.0\.0\.1:1: maxconn: expected a whole number"),
                ('"127.0.0.1:1"', 'balance = "random"', r'balance: expected "roundrobin" or "leastconn", got "random"'),
                ("", "", r"no upstreams")):
            d = self.run_cosockd(["-t", "-c", self.config(
                f'service "web" {{ script = "proxy.lua", listen = ":1", upstreams = {{ {entries} }}, {extra} }}')])
            d.exit_status = 78
            self.assertEqual(d.wait_exit(10), 78, d.log())
            self.assertRegex(d.log(), message)


if __name__ == "__main__":
    harness.main()
