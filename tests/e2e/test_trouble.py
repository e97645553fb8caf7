"""Scripts that fail, run away or eat up their memory: nobody else notices."""

import select
import time

import harness
import pki

# An echo whose handler can be told to go wrong. Line numbers matter to the tests below.
TROUBLE = """\
local port = tonumber((...))

local function fail()
   error("on purpose")
end

local function spin()
   while true do end
end

local function stubborn()
   for _ = 1, 5 do pcall(spin) end
end

-- Backtracks for a second or so; no hook comes to it.
local function match()
   local n = 20
   local found = string.find(string.rep("a", n), string.rep("a?", n) .. string.rep("a", n) .. "b")
   return found
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

-- A peer's JSON that never ends, and one that is too large at once.
local function endless()
   local parser, good, what = ba.json.parser(), true, nil
   good = parser:parse("[")
   while good do good, what = parser:parse(string.rep("{},", 100)) end
   local _, also = ba.json.decode("[" .. string.rep("{},", 100000) .. "1]")
   return what .. " " .. also
end

local function abandon(s) s:disable() end -- nobody holds s

local commands = {fail = fail, match = match, spin = spin, stubborn = stubborn, eat = eat, swallow = swallow, hoard = hoard, abandon = abandon}

local function serve(s)
   while true do
      local data = s:read()
      if not data then break end
      local command = commands[data:match("^%a+")]
      if command then command(s) end
      if data:find("^guarded") then data = guarded() end
      if data:find("^endless") then data = endless() end
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
        self.assertRegex(found.group(0), r" peer=127\.0\.0\.1:\d+:", "which connection")
        self.assertRegex(found.group(0), rf"trouble\.lua:{line_of('if command then command(s) end')}",
                         "the caller is not in the traceback")

    def test_whose_error_it_is(self):
        """What runs later than its maker is still its service's: ticks of timers, functions that choose certificates."""
        cert, key = pki.Pki(f"{self.directory}/pki").issue("a.test")
        port, other = harness.free_port(), harness.free_port()
        self.write("late.lua", """
            local args = ...
            local shark = ba.create.sharkssl(nil, {server = true, choose = function() error "chosen late" end})
            shark:addcert(ba.create.sharkcert {cert = args.cert, key = args.key})
            ba.socket.bind(args.port, {intf = "127.0.0.1", shark = shark}):event(function(listener)
              for sock in listener.accept, listener do
                sock:event(function(s) ba.timer(function() error "ticked late" end):set(1, true) s:read() end, "s")
              end
            end)
        """)
        self.daemon = self.service(f'service "first" {{ script = "late.lua", port = {port}, cert = "{cert}", key = "{key}" }}\n'
                                   f'service "last" {{ script = "echo.lua", listen = "127.0.0.1:{other}" }}\n', [port, other])
        self.daemon.expect("script error service=first .*chosen late")
        self.daemon.expect("script error service=first .*ticked late")
        with self.connect(port) as s:
            with self.assertRaises(OSError):
                pki.anybody().wrap_socket(s, server_hostname="a.test")
        self.daemon.wait_log("chosen late")
        self.daemon.wait_log("ticked late")

    def test_abandoned_connection(self):
        """Closed within seconds, and counted."""
        self.start()
        self.assertEqual(self.status()["counters"]["sockets_collected"], 0)
        begun = time.monotonic()
        self.order(b"abandon")
        self.assertLess(time.monotonic() - begun, 5 * harness.SLOW)
        self.assertEqual(self.status()["counters"]["sockets_collected"], 1)
        self.assertIn("1 abandoned sockets", self.control("status").stdout)
        self.assert_neighbour()

    def test_the_end_of_a_tunnel_is_told_when_memory_is_short(self):
        """What on_close gives back may be what is missing."""
        port, origin = harness.free_port(), self.server(harness.echo)
        self.write("tunnel.lua", f"""
local kept = {{}}
local function carry(server, client)
   assert(ba.socket.connect("127.0.0.1", {origin.port}))
   assert(ba.socket.relay(client, server, {{detach = true, on_close = function(result)
      kept = {{}}
      trace("told: " .. result.reason)
   end}}))
   repeat
      kept[#kept + 1] = ("x"):rep(65536) .. #kept
      collectgarbage()
   until collectgarbage "count" > 15000
   trace(pcall(ba.thread.run, print))
end
ba.socket.bind({port}, {{intf = "127.0.0.1"}}):event(function(l)
   for client in l.accept, l do ba.socket.event(carry, client) end
end)
""")
        d = self.service('lua_memory = "16M"\nservice "tunnel" { script = "tunnel.lua" }', [port])
        with self.connect(port) as s:
            s.sendall(b"hello")
            self.assertEqual(harness.read_exactly(s, 5), b"hello")
            d.wait_log("no new coroutine: the scripts' memory is nearly used up")
        d.wait_log("told: eof")
        self.assert_echo(port)

    def test_a_listener_outlives_short_memory(self):
        """It takes no connection for which there may be no coroutine."""
        port = harness.free_port()
        self.write("full.lua", f"""
local kept = {{}}
local function serve(sock, context)
   for data in sock.read, sock do
      kept = {{}}
      sock:write("done" .. #context)
   end
   sock:close()
end
ba.socket.bind({port}, {{intf = "127.0.0.1"}}):event(function(l)
   for sock in l.accept, l do
      local context = ("x"):rep(20000) -- more than is left below 90 % of the limit
      ba.socket.event(function() serve(sock, context) end)
      while not full and collectgarbage "count" * 1024 < (2 << 20) * 0.9 - 12000 do
         kept[#kept + 1] = ("x"):rep(4000) .. #kept
         collectgarbage()
      end
      full = true
   end
end)
""")
        d = self.service('lua_memory = "2M"\nservice "full" { script = "full.lua" }', [port])
        with self.connect(port) as first, self.connect(port) as second:
            second.sendall(b"x")
            harness.until(lambda: "accepting paused" in d.log() or select.select([second], [], [], 0)[0])
            first.sendall(b"x")
            for s in (first, second):
                self.assertEqual(harness.read_exactly(s, 9), b"done20000")

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

    def test_an_endless_loop_that_catches_errors(self):
        self.start('cpu_budget = "50ms"')
        self.daemon.expect(rf"trouble\.lua:{line_of('pcall(spin)')}: CPU budget")
        self.order(b"stubborn")
        self.daemon.wait_log(r"CPU budget")
        self.assertEqual(self.status()["counters"]["cpu_overruns"], 1)
        self.assert_neighbour()

    def test_runaway_pattern(self):
        """It cannot be stopped, but it is said whose it is; then it ends with the error."""
        self.start('cpu_budget = "10ms"')
        line = line_of("return found")
        self.daemon.expect(rf"trouble\.lua:{line}: CPU budget")
        self.order(b"match")
        found = self.daemon.wait_log(r"^.*script stuck.*")
        self.assertRegex(found.group(0), r"service=trouble generation=1: \d+ ms of CPU in one call")
        self.daemon.wait_log(rf"trouble\.lua:{line}: CPU budget")
        self.assert_neighbour()

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

    def test_json_counts_as_memory_of_the_scripts(self):
        self.start('lua_memory = "16M"\ncpu_budget = "10s"')
        with self.connect(self.port) as s:
            s.sendall(b"endless")
            self.assertEqual(s.recv(1000), b"memory memory")
            s.sendall(b"again")
            self.assertEqual(s.recv(1000), b"again")
        self.assert_neighbour()


if __name__ == "__main__":
    harness.main()
