"""Things that run out or run away: ports, descriptors, patience, memory."""

import socket
import time

import harness

# An echo whose handler can be told to go wrong. Line numbers matter to the tests below.
TROUBLE = """\
local port = tonumber((...))

local function fail()
   error("on purpose")
end

local function spin()
   while true do end
end

local function eat()
   local t = {}
   for i = 1, math.huge do t[i] = {i} end
end

local function swallow()
   return string.rep("x", 1 << 30)
end

local kept = {}
local function hoard(s)
   while true do kept[#kept + 1] = string.rep("x", 65536) .. #kept end
end

local function guarded()
   local ok, err = pcall(eat)
   kept = {}
   return ok and "grew" or "caught: " .. tostring(err)
end

local commands = {fail = fail, spin = spin, eat = eat, swallow = swallow, hoard = hoard}

local function serve(s)
   while true do
      local data = s:read()
      if not data then break end
      local command = commands[data:match("^%a+")]
      if command then command(s) end
      if data:find("^guarded") then data = guarded() end
      if data:find("^release") then kept = {} end
      if not s:write(data) then break end
   end
end

local listener = assert(ba.socket.bind(port, {intf = "127.0.0.1"}))
listener:event(function(l)
   while true do
      local s = l:accept()
      if not s then break end
      s:event(serve, "s")
   end
end, "r")
"""


def line_of(text):
    return TROUBLE[:TROUBLE.index(text)].count("\n") + 1


@harness.both_descriptor_kinds
class TroubleTest(harness.Case):
    def start(self, settings=""):
        self.port = harness.free_port()
        text = TROUBLE.replace("tonumber((...))", str(self.port))
        self.write("trouble.lua", text)
        self.daemon = self.service(f'{settings}\nservice "trouble" {{ script = "trouble.lua" }}', [self.port])
        self.neighbour = self.connect(self.port)
        self.assert_neighbour()

    def assert_neighbour(self):
        """A connection that was there before goes on."""
        data = harness.noise(5000, int(time.monotonic() * 1000) % 1000).replace(b"a", b"b")
        data = b"1" + data
        self.neighbour.sendall(data)
        self.assertEqual(harness.read_exactly(self.neighbour, len(data)), data)

    def order(self, command, seconds=20):
        """Sends a command and waits until the connection is closed."""
        with self.connect(self.port, seconds) as s:
            s.sendall(command)
            self.assertTrue(harness.ended(s), f"{command}: not closed")

    def test_script_error(self):
        self.start()
        line = line_of('error("on purpose")')
        self.daemon.expect(rf"trouble\.lua:{line}: on purpose")
        self.order(b"fail")
        self.assert_neighbour()
        self.assert_echo(self.port)
        found = self.daemon.wait_log(r"^.*on purpose.*")
        self.assertRegex(found.group(0), r"traceback", "no traceback")
        self.assertRegex(found.group(0), rf"trouble\.lua:{line_of('if command then command(s) end')}",
                         "the caller is not in the traceback")

    def test_a_thousand_script_errors(self):
        self.start()
        self.daemon.expect(r"on purpose")
        for _ in range(1000 // harness.SLOW):
            self.order(b"fail")
        self.assert_neighbour()

    def test_endless_loop(self):
        self.start('cpu_budget = "100ms"')
        line = line_of("while true do end")
        self.daemon.expect(rf"trouble\.lua:{line}:")
        begun = time.monotonic()
        self.order(b"spin")
        self.assertLess(time.monotonic() - begun, 5 * harness.SLOW)
        self.assert_neighbour()
        self.assert_echo(self.port)
        found = self.daemon.wait_log(rf"^.*trouble\.lua:{line}:.*")
        self.assertRegex(found.group(0), r"traceback")
        before = self.daemon.cpu_seconds()
        time.sleep(0.5)
        self.assertLess(self.daemon.cpu_seconds() - before, 0.1, "something still spins")

    def test_several_endless_loops(self):
        self.start('cpu_budget = "50ms"')
        self.daemon.expect(rf"trouble\.lua:{line_of('while true do end')}:")
        sockets = [self.connect(self.port) for _ in range(10)]
        for s in sockets:
            s.sendall(b"spin")
        for s in sockets:
            self.assertTrue(harness.ended(s))
        self.assert_neighbour()

    def test_out_of_memory(self):
        self.start('lua_memory = "16M"\ncpu_budget = "10s"')
        self.daemon.expect(r"not enough memory")
        for command in (b"eat", b"swallow"):
            self.order(command)
            self.assert_neighbour()
        self.assert_echo(self.port)

    def test_out_of_memory_that_is_kept(self):
        """What was hoarded stays: the daemon must live with a full VM, and recover when it is freed."""
        self.start('lua_memory = "16M"\ncpu_budget = "10s"')
        self.daemon.expect(r"not enough memory")
        self.order(b"hoard")
        self.assertTrue(self.daemon.alive())
        for _ in range(20):
            s = self.connect(self.port)
            s.close()
        self.neighbour.sendall(b"release")
        self.assertEqual(harness.read_exactly(self.neighbour, 7), b"release")

        def served():
            try:
                with self.connect(self.port, 2) as s:
                    s.sendall(b"again")
                    return harness.read_exactly(s, 5) == b"again"
            except (EOFError, OSError):
                return False

        harness.until(served, 20, "served again after the memory was released")
        self.assertTrue(self.daemon.alive())
        # A refused task may be logged as an error as well.
        self.daemon.expected.append(harness.re.compile(r"memory"))

    def test_out_of_memory_is_an_error_a_script_can_catch(self):
        self.start('lua_memory = "16M"\ncpu_budget = "10s"')
        with self.connect(self.port) as s:
            s.sendall(b"guarded")
            self.assertIn(b"not enough memory", s.recv(1000))
        self.assert_neighbour()


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
class DescriptorTest(harness.Case):
    nofile = 64

    def test_descriptor_table_full(self):
        """More clients than descriptors: those who wait are served when others leave."""
        origin = self.server(harness.echo)
        daemon, port = self.proxy([origin.port], nofile=self.nofile)
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
