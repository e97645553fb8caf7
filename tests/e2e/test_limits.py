"""Things that run out: ports and descriptors; and peers in numbers that are no real ones."""

import socket
import time

import harness


@harness.both_descriptor_kinds
class PortTest(harness.Case):
    def test_port_in_use(self):
        taken = self.server(harness.echo)
        d = self.run_cosockd(["-c", self.config(
            f'service "web" {{ script = "proxy.lua", listen = {{"127.0.0.1:{taken.port}"}}, '
            f'upstreams = {{"127.0.0.1:{taken.port}"}} }}')])
        d.exit_status = 1
        d.expect(rf"\b{taken.port}\b")
        self.assertEqual(d.wait_exit(10), 1, d.log())
        self.assertRegex(d.log(), rf"{taken.port}.*(?i:in use)")

    def test_port_in_use_is_a_result_for_a_script(self):
        """Scripts search for a free port that way."""
        taken = self.server(harness.echo)
        free = harness.free_port()
        d = self.cosockd(f"""
            local s, err = ba.socket.bind({taken.port})
            print("first", s, err)
            s = assert(ba.socket.bind({free}))
            s:event(function(l) while l:accept() do end end, "r")
            """, listens=[free])
        d.wait_log(r"first\s+nil\s+bind")

    def test_a_failed_start_disturbs_nobody(self):
        """A second daemon with the same configuration ends; the first goes on."""
        origin = self.server(harness.echo)
        first, port = self.proxy([origin.port])
        second = self.run_cosockd(["-c", f"{self.directory}/cosockd.lua"])
        second.exit_status = 1
        self.assertEqual(second.wait_exit(10), 1, second.log())
        self.assert_echo(port)
        self.assertTrue(first.alive())


@harness.both_descriptor_kinds
class WriteBufferTest(harness.Case):
    def test_the_smallest(self):
        """What a job has written fills it, before a cosocket writes behind it in the same turn."""
        port = harness.free_port()
        self.write("writers.lua", f"""
ba.socket.bind({port}, {{intf = "127.0.0.1"}}):event(function(l)
   local s = l:accept()
   local writer = ba.socket.event(function(own)
      own:disable()
      s:write "the end"
      s:close()
   end)
   s:event(function() s:read() end, "s")
   ba.thread.run(function()
      s:write(("a"):rep(100)) -- TCP takes it
      s:write(("b"):rep(4096)) -- joined, to be sent at the end of the turn
      writer:enable()
   end)
end, "r")
""")
        self.service('write_buffer = "4k"\nservice "writers" { script = "writers.lua" }', [port])
        with self.connect(port) as s:
            self.assertEqual(harness.read_all(s), b"a" * 100 + b"b" * 4096 + b"the end")


@harness.both_descriptor_kinds
class DescriptorTest(harness.Case):
    nofile = 64

    def test_descriptor_table_full(self):
        """More clients than descriptors: those who wait are served when others leave."""
        self.more_clients_than_descriptors("")

    def test_two_workers_share_the_descriptors(self):
        self.more_clients_than_descriptors("workers = 2")

    def more_clients_than_descriptors(self, settings):
        origin = self.server(harness.echo)
        daemon, port = self.proxy([origin.port], settings=settings, nofile=self.nofile)
        clients = {}
        for i in range(80):
            s = self.connect(port)
            s.setblocking(False)
            clients[s] = b"client %03d" % i
            try:
                s.send(clients[s])
            except OSError as e:
                self.fail(f"client {i}: {e}")
        answered = 0
        busy = daemon.cpu_seconds()
        begun = time.monotonic()
        deadline = begun + 30 * harness.SLOW
        while clients:
            self.assertLess(time.monotonic(), deadline, f"{answered} of 80 clients answered: {daemon.log()[-2000:]}")
            for s in list(clients):
                try:
                    data = s.recv(100)
                except BlockingIOError:
                    continue
                self.assertEqual(data, clients[s], f"after {answered} answers")
                answered += 1
                del clients[s]
                s.close()
            time.sleep(0.02)
        took = time.monotonic() - begun
        self.assertLess(daemon.cpu_seconds() - busy, max(0.5, took / 2), "spins while the table is full")
        self.assert_echo(port)

    def test_full_for_a_while_does_not_spin(self):
        origin = self.server(harness.echo)
        daemon, port = self.proxy([origin.port], nofile=self.nofile)
        clients = [self.connect(port) for _ in range(80)]
        harness.until(lambda: origin.accepted > 5, 10, "some served")
        time.sleep(0.5)
        before = daemon.cpu_seconds()
        time.sleep(1)
        self.assertLess(daemon.cpu_seconds() - before, 0.1 * harness.SLOW)
        for s in clients:
            s.close()

        def served():
            try:
                self.assert_echo(port, timeout=2)
                return True
            except (OSError, EOFError):
                return False

        harness.until(served, 20, "served again")


class WrongPeersTest(harness.Case):
    """Peers that connect and do nothing, or vanish at once, in numbers."""

    def test_connections_that_vanish(self):
        origin = self.server(harness.echo)
        daemon, port = self.proxy([origin.port])
        for i in range(500):
            s = socket.create_connection(("127.0.0.1", port))
            if i % 2:
                harness.reset(s)
            else:
                s.close()
        self.assert_echo(port)
        self.assertTrue(daemon.alive())


if __name__ == "__main__":
    harness.main()
