"""File calls hold up nobody: with one coroutine in each of them, everybody else goes on."""

import os
import signal

import harness

# Echo, and jobs that open and read FIFOs: both take until somebody writes there. Script mode, where io:open takes
# any file.
SCRIPT = """
local port, folder, fifos = ...
local listener = assert(ba.socket.bind(tonumber(port), {intf = "127.0.0.1"}))
listener:event(function(l)
   for s in l.accept, l do
      s:event(function(s) for data in s.read, s do s:write(data) end end, "s")
   end
end, "r")

local function read(name)
   local file = assert(io:open(folder .. "/" .. name))
   print(name .. " open")
   local data = file:read("a")
   file:close()
   print(name .. " has " .. data)
end

for i = 1, fifos do ba.thread.run(function() read("fifo" .. i) end) end
ba.thread.run(function()
   ba.sleep(1)
   local file = assert(io:open(folder .. "/plain", "w"))
   for i = 1, 3 do
      ba.thread.run(function() file:write(tostring(i):rep(3), "\\n") end)
   end
   file:write("last\\n")
   file:close()
   print "plain written"
end)
"""


class FilesTest(harness.Case):
    def test_fifos_hold_up_nobody(self):
        port = harness.free_port()
        fifos = [os.path.join(self.directory, f"fifo{i}") for i in range(1, 4)]
        for fifo in fifos:
            os.mkfifo(fifo)
        d = self.cosockd(SCRIPT, [port, self.directory, 3], listens=[port])
        for _ in range(20):
            self.assert_echo(port)
        self.assertNotIn("open", d.log())
        writers = []
        for i, fifo in enumerate(fifos, 1):
            writers.append(open(fifo, "wb", buffering=0))  # waits for the reader
            d.wait_log(rf"fifo{i} open")
            if i == 1:
                self.assert_echo(port)  # now one waits in read
            writers[-1].write(b"text %d" % i)
            writers[-1].close()
            d.wait_log(rf"fifo{i} has text {i}")
            self.assert_echo(port)
        d.wait_log("plain written")
        with open(os.path.join(self.directory, "plain"), encoding="ascii") as f:
            self.assertEqual(sorted(f.read().split()), ["111", "222", "333", "last"])

    def test_stop_with_a_file_that_does_not_answer(self):
        if os.environ.get("CS_BUILD_SANITIZE"):
            self.skipTest("what the stuck call has is reported as a leak")
        port = harness.free_port()
        for i in range(1, 7):
            os.mkfifo(os.path.join(self.directory, f"fifo{i}"))
        d = self.cosockd(SCRIPT, [port, self.directory, 6], listens=[port])
        self.assert_echo(port)
        d.signal(signal.SIGTERM)
        self.assertEqual(d.wait_exit(20), 0, d.log())


class StartTest(harness.Case):
    def start(self, script, wanted):
        self.write("greeting", "hello")
        self.write("s.lua", script)
        d = self.run_cosockd(["-c", self.config('service "s" { script = "%s/s.lua" }' % self.directory)])
        d.expect(wanted)
        d.exit_status = 78
        return d

    def test_an_error_after_a_file_call_fails_the_start(self):
        """The chunk has not ended while it waits for a file."""
        d = self.start("""
            local file = assert(io:open("greeting"))
            error("read: " .. file:read("a"))
            """, r"s\.lua:3: read: hello")
        self.assertEqual(d.wait_exit(20), 78, d.log())

    def test_an_address_bound_after_a_file_call_is_there_at_the_start(self):
        port = harness.free_port()
        self.write("port", str(port))
        self.write("s.lua", """
            local file = assert(io:open("port"))
            local port = tonumber(file:read("a"))
            assert(io:stat("port").size == #tostring(port))
            local l = assert(ba.socket.bind(port, {intf = "127.0.0.1"}))
            l:event(function(l) for s in l.accept, l do s:write("hello") s:close() end end)
            """)
        d = self.service('service "s" { script = "%s/s.lua" }' % self.directory, [port])
        with self.connect(port) as s:
            self.assertEqual(harness.read_exactly(s, 5), b"hello")
        self.write("s.lua", 'io:stat("port") error("on purpose")')
        d.expect("on purpose")
        run = self.control("reload", "--wait")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("on purpose", run.stdout + run.stderr)
        with self.connect(port) as s:
            self.assertEqual(harness.read_exactly(s, 5), b"hello")


if __name__ == "__main__":
    harness.main()
