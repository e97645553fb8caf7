"""How many connections are let in: maxconn of a service and in all, limit_conn of a client address."""

import signal
import socket
import time

import harness

ECHO = 'service "{}" {{ script = "echo.lua", listen = {}, {} }}\n'


@harness.both_descriptor_kinds
class MaxconnTest(harness.Case):
    def echo(self, extra="", settings="", ports=1):
        """echo.lua on some ports."""
        self.ports = [harness.free_port() for _ in range(ports)]
        listed = ", ".join(f'"127.0.0.1:{p}"' for p in self.ports)
        self.text = f'{settings}\n{ECHO.format("web", f"{{{listed}}}", extra)}'
        return self.service(self.text, self.ports)

    def admission(self, name=None):
        """What status says of a service, or of all."""
        return next(a for a in self.status()["admission"] if a.get("service") == name)

    def said(self, sock, data=b"x"):
        """The connection is served."""
        sock.sendall(data)
        self.assertEqual(harness.read_exactly(sock, len(data)), data)

    def held(self, port, count):
        """Connections that are served and stay."""
        socks = [self.connect(port) for _ in range(count)]
        for s in socks:
            self.said(s)
        return socks

    def assert_waits(self, sock, accepted=None):
        """With accepting paused; in the backlog, unless another address took it before it heard of that."""
        sock.sendall(b"y")
        harness.until(lambda: self.admission("web")["paused"] + self.admission()["paused"] > 0, 10, "a pause")
        if accepted:
            self.assertEqual(self.status()["counters"]["accepted"], accepted)

    def test_of_a_service(self):
        daemon = self.echo("maxconn = 3")
        held = self.held(self.ports[0], 3)
        late = [self.connect(self.ports[0]) for _ in range(2)]
        for s in late:
            self.assert_waits(s, 3)
        self.assertEqual(self.admission("web")["connections"], 3)
        daemon.wait_log(r"warn maxconn reached, accepting paused service=web")
        held[0].close()
        self.assertEqual(harness.read_exactly(late[0], 1), b"y")
        self.assert_waits(late[1], 4)
        held[1].close()
        self.assertEqual(harness.read_exactly(late[1], 1), b"y")

    def test_two_addresses_share_it(self):
        self.echo("maxconn = 1", ports=2)
        first = self.held(self.ports[0], 1)[0]
        late = self.connect(self.ports[1])
        self.assert_waits(late)
        self.assertEqual(self.admission("web")["connections"], 1)
        first.close()
        self.assertEqual(harness.read_exactly(late, 1), b"y")
        again = self.connect(self.ports[0])
        self.assert_waits(again)
        self.assertEqual(self.admission("web")["connections"], 1)
        late.close()
        self.assertEqual(harness.read_exactly(again, 1), b"y")

    def test_never_more_than_that_at_a_time(self):
        """Clients come to both addresses at once; the script counts."""
        ports = [harness.free_port() for _ in range(2)]
        script = self.write("count.lua", """
            local address = require "cosock.address"
            local open, most = 0, 0
            address.listen((...).listen, function(sock) sock:event(function()
              open = open + 1
              if open > most then most = open trace("most", most) end
              sock:write(sock:read() or "")
              open = open - 1
            end, "s") end)
            """)
        daemon = self.service(f'service "web" {{ script = "{script}", maxconn = 5, '
                              f'listen = {{"127.0.0.1:{ports[0]}", "127.0.0.1:{ports[1]}"}} }}', ports)
        socks = [self.connect(p) for _ in range(50) for p in ports]
        for s in socks:
            s.sendall(b"z")
        for s in socks:
            self.assertEqual(harness.read_exactly(s, 1), b"z")
            s.close()
        harness.until(lambda: self.admission("web")["connections"] == 0, 10, "the end of all")
        self.assertNotRegex(daemon.log(), r"most\s+([6-9]|\d\d)")

    def test_datagram_sockets_are_counted(self):
        script = self.write("udp.lua", """
            sockets = {ba.socket.udpcon(), ba.socket.udpcon(0), ba.socket.event(function(s)
              ba.socket.udpcon("localhost", 9)
              s:read()
            end)}
            """)
        port = harness.free_port()
        self.service("".join(f'service "{name}" {{ script = "{script}" }}\n' for name in ("one", "two")) +
                     ECHO.format("web", f'"127.0.0.1:{port}"', ""), [port])
        harness.until(lambda: self.admission()["udp_sockets"] == 6, 10, "six sockets")
        self.assertEqual([self.admission(name)["udp_sockets"] for name in ("one", "two")], [3, 3])

    def test_in_all(self):
        ports = [harness.free_port() for _ in range(2)]
        self.service("maxconn = 2\n" + "".join(ECHO.format(n, f'"127.0.0.1:{p}"', "")
                                               for n, p in zip(("web", "other"), ports)), ports)
        first, second = self.held(ports[0], 1)[0], self.held(ports[1], 1)[0]
        late = self.connect(ports[0])
        self.assert_waits(late)
        self.assertEqual(self.admission()["connections"], 2)
        second.close()  # of the other service
        self.assertEqual(harness.read_exactly(late, 1), b"y")
        self.said(first)

    def test_a_tunnel_counts_until_its_end(self):
        origin = self.server(harness.echo)
        _, port = self.proxy([origin.port], "maxconn = 1")
        first = self.held(port, 1)[0]
        self.assertEqual(self.status()["detached_relays"], 1)
        late = self.connect(port)
        self.assert_waits(late, 1)
        first.close()
        self.assertEqual(harness.read_exactly(late, 1), b"y")

    def test_a_reload_changes_it(self):
        self.echo("maxconn = 1")
        first = self.held(self.ports[0], 1)[0]
        late = [self.connect(self.ports[0]) for _ in range(2)]
        self.assert_waits(late[0], 1)
        self.config(self.text.replace("maxconn = 1", "maxconn = 2"))
        self.assertEqual(self.reload().returncode, 0)
        self.assertEqual(harness.read_exactly(late[0], 1), b"y")
        self.assert_waits(late[1], 2)
        self.config(self.text.replace("maxconn = 1", "maxconn = 1, limit_conn = 9"))
        self.assertEqual(self.reload().returncode, 0)  # fewer than there are: nobody is cut
        first.close()
        self.said(late[0])
        self.assert_waits(late[1], 2)
        self.config(self.text.replace("maxconn = 1", ""))
        self.assertEqual(self.reload().returncode, 0)
        self.assertEqual(harness.read_exactly(late[1], 2), b"yy")
        self.assertEqual(self.admission("web")["maxconn"], 0)

    def test_full_does_not_spin(self):
        daemon = self.echo("maxconn = 1")
        self.held(self.ports[0], 1)
        late = [self.connect(self.ports[0]) for _ in range(20)]
        self.assert_waits(late[0], 1)
        before, turns = daemon.cpu_seconds(), self.status()["counters"]["turns"]
        time.sleep(1)
        self.assertLess(daemon.cpu_seconds() - before, 0.1 * harness.SLOW)
        self.assertLess(self.status()["counters"]["turns"] - turns, 50)
        for s in late:
            s.close()

    def test_several_workers(self):
        """What one worker closes lets another accept."""
        self.echo("maxconn = 4", "workers = 2")
        socks = [self.connect(self.ports[0]) for _ in range(60)]
        for s in socks:
            s.sendall(b"w")
        served = set()
        while len(served) < len(socks):
            ready = [s for s in socks if s not in served and self.readable(s)]
            self.assertLessEqual(self.admission()["connections"], 4)
            for s in ready:
                self.assertEqual(harness.read_exactly(s, 1), b"w")
                s.close()
                served.add(s)

    def readable(self, sock):
        sock.setblocking(False)
        try:
            return sock.recv(1, socket.MSG_PEEK) == b"w"
        except BlockingIOError:
            return False
        finally:
            sock.settimeout(20 * harness.SLOW)


@harness.both_descriptor_kinds
class LimitConnTest(harness.Case):
    def client(self, port, source):
        s = socket.create_connection(("127.0.0.1", port), 20 * harness.SLOW, source_address=(source, 0))
        self.addCleanup(s.close)
        return s

    def assert_refused(self, port):
        """Closed at once; with luck before the client knew that it was connected."""
        try:
            self.assertTrue(harness.ended(self.client(port, "127.0.0.1")))
        except ConnectionResetError:
            pass

    def assert_served(self, s):
        s.sendall(b"x")
        self.assertEqual(harness.read_exactly(s, 1), b"x")

    def admission(self, name=None):
        return next(a for a in self.status()["admission"] if a.get("service") == name)

    def test_of_a_service(self):
        port = harness.free_port()
        daemon = self.service(ECHO.format("web", f'"127.0.0.1:{port}"', "limit_conn = 2"), [port])
        held = [self.client(port, "127.0.0.1") for _ in range(2)]
        for s in held:
            self.assert_served(s)
        self.assert_refused(port)
        self.assert_served(self.client(port, "127.0.0.2"))
        daemon.wait_log(r"warn connection refused: its client has limit_conn service=web .* peer=127\.0\.0\.1")
        self.assertEqual(self.admission("web")["refused"], 1)
        held[0].close()
        harness.until(lambda: self.admission("web")["connections"] == 2, 10, "the end of one")
        self.assert_served(self.client(port, "127.0.0.1"))

    def test_refused_after_it_was_accepted(self):
        """While full, one more came in by the other address; when there is room its client has too many."""
        ports = [harness.free_port() for _ in range(2)]
        daemon = self.service(ECHO.format("web", f'{{ "127.0.0.1:{ports[0]}", "127.0.0.1:{ports[1]}" }}', "maxconn = 2, limit_conn = 1"), ports)
        self.assert_served(self.client(ports[0], "127.0.0.1"))
        daemon.signal(signal.SIGSTOP)
        second, extra = self.client(ports[0], "127.0.0.2"), self.client(ports[1], "127.0.0.1")
        daemon.signal(signal.SIGCONT)
        self.assert_served(second)
        second.close()
        self.assertTrue(harness.ended(extra))
        self.assert_served(self.client(ports[1], "127.0.0.3"))
        self.assertEqual(self.admission("web")["refused"], 1)

    def test_in_all(self):
        ports = [harness.free_port() for _ in range(2)]
        self.service("limit_conn = 1\n" + "".join(ECHO.format(n, f'"127.0.0.1:{p}"', "")
                                                  for n, p in zip(("web", "other"), ports)), ports)
        self.assert_served(self.client(ports[0], "127.0.0.1"))
        self.assert_refused(ports[1])
        self.assert_served(self.client(ports[1], "127.0.0.2"))
        self.assertEqual(self.admission()["refused"], 1)


class ShortOfDescriptorsTest(harness.Case):
    def test_it_is_counted_and_said_once(self):
        origin = self.server(harness.echo)
        daemon, port = self.proxy([origin.port], nofile=64)
        clients = [self.connect(port) for _ in range(80)]
        harness.until(lambda: self.status()["counters"]["accept_pauses"] > 0, 10, "a pause")
        daemon.wait_log(r"warn descriptor table full, accepting paused")
        for s in clients:
            s.close()
        harness.until(lambda: self.status()["connections"] == 0, 20, "the end of all")
        self.assert_echo(port)


if __name__ == "__main__":
    harness.main()
