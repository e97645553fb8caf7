"""cosockd test: what it runs, what it reports, how it ends."""

import re
import subprocess

import harness

HOOKS = """
local log = {}
local function note(what) return function() table.insert(log, what) end end

describe("outer", function()
  before_each(note "before outer")
  after_each(note "after outer")
  it("first", note "first")
  describe("inner", function()
    before_each(note "before inner")
    after_each(note "after inner")
    it("second", note "second")
  end)
end)

it("ran in order", function()
  assert(table.concat(log, ", ") == "before outer, first, after outer, " ..
    "before outer, before inner, second, after inner, after outer", table.concat(log, ", "))
end)

it("waits, connects and accepts", function()
  local listener <close> = assert(ba.socket.bind(0, {intf = "127.0.0.1"}))
  listener:event(function(s)
    for client in s.accept, s do client:event(function(c) c:write(c:read()) end, "s") end
  end)
  local client <close> = assert(ba.socket.connect("127.0.0.1", select(2, listener:sockname())))
  client:write("ping")
  assert(client:read(5000) == "ping")
  assert(ba.socket.getsock() == nil)
end)

it("is a cosocket", function(sock)
  assert(ba.socket.getsock() == sock and sock:owner())
end, {cosocket = true})

it("is to be written")
it("cannot be done here", function() skip("no moon") end)
function test_plain() shared = 1 end
function test_plain_too() assert(shared == 1) end
test_value = 1
"""

BAD = """
local function deep() error("deep trouble") end
it("fails", function()
  deep()
end)
it("fails in after_each too", function() end)
it("raises a table", function() error({}) end)
it("returns from pcall", function() assert(pcall(error)) end)
describe("with a bad hook", function()
  before_each(function() error "no base" end)
  it("does not run", function() print "NOT REACHED" end)
end)
it("passes", function() end)
"""

LEAKS = """
it("leaves a listener and a task", function()
  local listener = assert(ba.socket.bind(0, {intf = "127.0.0.1"}))
  listener:event(function(s) s:accept() end)
end)
it("leaves a job", function()
  ba.thread.run(function() ba.sleep(100000) end)
end)
it("leaves a timer", function()
  ba.timer(function() end):set(100000, true)
end)
it("leaves a connection", function()
  local listener <close> = assert(ba.socket.bind(0, {intf = "127.0.0.1"}))
  kept = assert(ba.socket.connect("127.0.0.1", select(2, listener:sockname())))
end)
it("leaves nothing", function()
  local listener <close> = assert(ba.socket.bind(0, {intf = "127.0.0.1"}))
  local _ = assert(ba.socket.connect("127.0.0.1", select(2, listener:sockname()))) -- collected
end)
"""

HANGS = """
it("sleeps", function()
  local x <close> = setmetatable({}, {__close = function() print "CLOSED" end})
  ba.sleep(1000000)
end)
it("reads for ever", function(sock)
  sock:read(1000000)
end, {cosocket = true, timeout = 50})
it("computes for ever", function() while true do end end)
it("goes on", function() end)
"""


class TestFiles(harness.Case):
    def run_test(self, *arguments):
        run = subprocess.run([harness.COSOCKD, "test", *arguments], capture_output=True, text=True, check=False,
                             timeout=60 * harness.PATIENCE, cwd=self.directory, stdin=subprocess.DEVNULL)
        self.assertIsNone(harness.SANITIZER_REPORT.search(run.stdout + run.stderr), run.stdout + run.stderr)
        return run

    def lines(self, run, pattern):
        return re.findall(pattern, run.stdout, re.M)

    def test_good(self):
        self.write("good.lua", HOOKS)
        run = self.run_test("good.lua")
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertEqual(run.stdout.splitlines()[0], "TAP version 13")
        self.assertEqual(self.lines(run, r"^(ok \d+ - .*)"), [
            "ok 1 - outer first", "ok 2 - outer inner second", "ok 3 - ran in order",
            "ok 4 - waits, connects and accepts", "ok 5 - is a cosocket", "ok 6 - is to be written # SKIP",
            "ok 7 - cannot be done here # SKIP no moon", "ok 8 - test_plain", "ok 9 - test_plain_too"])
        self.assertRegex(run.stdout, r"(?m)^1\.\.9\n# 7 passed, 0 failed, 2 skipped, \d+ ms\n\Z")

    def test_failures(self):
        self.write("bad.lua", BAD)
        run = self.run_test("bad.lua")
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stdout, r"not ok 1 - fails\n# bad\.lua:2: deep trouble\n# \tbad\.lua:2: in .*deep.*\n"
                                     r"# \tbad\.lua:4: in [^\n]*\nok 2")
        self.assertRegex(run.stdout, r"not ok 3 - raises a table\n# table: ")
        self.assertIn("not ok 4 - returns from pcall", run.stdout)
        self.assertRegex(run.stdout, r"not ok 5 - with a bad hook does not run\n# bad\.lua:10: no base")
        self.assertNotIn("NOT REACHED", run.stdout)
        self.assertIn("ok 6 - passes\n1..6\n# 2 passed, 4 failed, 0 skipped", run.stdout)

    def test_files_that_do_not_load(self):
        self.write("syntax.lua", "\nlocal x = = 1\n")
        self.write("raises.lua", "it('is never reached', function() end)\nerror 'at load'\n")
        self.write("good.lua", "it('passes', function() assert(not x) end)\nx = 1\n")
        self.write("again.lua", "it('has globals of its own', function() assert(not x) end)\n")
        run = self.run_test("syntax.lua", "raises.lua", "good.lua", "again.lua")
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stdout, r"not ok 1 - syntax\.lua\n# syntax\.lua:2: unexpected symbol")
        self.assertRegex(run.stdout, r"not ok 2 - raises\.lua\n# raises\.lua:2: at load")
        self.assertIn("ok 5 - has globals of its own", run.stdout)

    def test_filter(self):
        self.write("good.lua", HOOKS)
        run = self.run_test("-f", "^outer", "good.lua")
        self.assertEqual(run.returncode, 0, run.stdout)
        self.assertIn("1..2\n", run.stdout)

    def test_leaks(self):
        self.write("leaks.lua", LEAKS)
        run = self.run_test("leaks.lua")
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stdout, r'not ok 1 - .*\n# left behind: "r" coroutine in accept at leaks\.lua:4\n'
                                     r"# left behind: 1 listeners\n")
        self.assertRegex(run.stdout, r"not ok 2 - .*\n# left behind: job at leaks\.lua:7\n")
        self.assertRegex(run.stdout, r"not ok 3 - .*\n# left behind: 1 timers\n")
        self.assertRegex(run.stdout, r"not ok 4 - .*\n# left behind: 1 sockets\n")
        self.assertIn("ok 5 - leaves nothing", run.stdout)
        self.assertIn("# 1 passed, 4 failed", run.stdout)

    def test_deadline(self):
        self.write("hangs.lua", HANGS)
        run = self.run_test("-t", "2000", "hangs.lua")
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stdout, r"CLOSED\nnot ok 1 - sleeps.*\n# did not end within \d+ ms, waits at\n"
                                     r"# \t\[C\]: in .*sleep.*\n# \thangs\.lua:4: in ")
        self.assertRegex(run.stdout, r"not ok 2 - reads for ever.*\n# did not end within 50 ms")
        self.assertRegex(run.stdout, r"not ok 3 - computes for ever.*\n# hangs\.lua:\d+: CPU budget of 1000 ms exceeded")
        self.assertRegex(run.stderr, "CPU budget of 1000 ms exceeded")
        self.assertIn("ok 4 - goes on\n1..4\n# 1 passed, 3 failed, 0 skipped", run.stdout)

    def test_after_each_in_any_case(self):
        """Also of a test that has been ended; in a job of its own then, with a deadline."""
        self.write("ended.lua", """
describe("a test", function()
  local n = 0
  after_each(function() n = n + 1 end)
  it("waits", function() ba.sleep(100000) end, {timeout = 50})
  it("gives way", function() while true do ba.sleep(0) end end, {timeout = 50})
  it("computes", function() while true do end end)
  it("computes in spite of it", function() while true do pcall(function() while true do end end) end end, {cosocket = true})
  it("counts", function() assert(n == 4, n) end)
end)
describe("what comes after it", function()
  after_each(function() ba.sleep(100000) end)
  it("waits", function() end, {timeout = 50})
end)
it("goes on", function() end)
""")
        run = self.run_test("ended.lua")
        self.assertEqual(re.findall(r"^(?:not )?ok \d+", run.stdout, re.M),
                         ["not ok 1", "not ok 2", "not ok 3", "not ok 4", "ok 5", "not ok 6", "ok 7"], run.stdout)
        self.assertRegex(run.stdout, r"not ok 3 .*\n# ended\.lua:7: CPU budget of 1000 ms exceeded without a wait\n# \tended\.lua:7")
        self.assertRegex(run.stdout, r"not ok 6 .*\n# did not end within 50 ms")

    def test_usage(self):
        self.write("good.lua", HOOKS)
        for arguments, pattern in [
                ([], "no FILE"), (["missing.lua"], "missing.lua: No such file"), (["--wrong", "good.lua"], "unknown option"),
                (["-f"], "needs a value"), (["-f", "[", "good.lua"], "malformed pattern"),
                (["-t", "soon", "good.lua"], "milliseconds"), (["-f", "no such test", "good.lua"], "no test is named")]:
            run = self.run_test(*arguments)
            self.assertEqual(run.returncode, 64, (arguments, run.stdout))
            self.assertRegex(run.stderr, pattern)
            self.assertEqual(run.stdout, "")
        run = self.run_test("--help")
        self.assertEqual(run.returncode, 0)
        self.assertIn("usage: cosockd test", run.stdout)

    def test_does_not_go_with(self):
        for option in [["-t"], ["-e", "x = 1"], ["-c", "x"]]:
            run = subprocess.run([harness.COSOCKD, *option, "test", "x.lua"], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 2)
            self.assertIn("do not go with test", run.stderr)


if __name__ == "__main__":
    harness.main()
