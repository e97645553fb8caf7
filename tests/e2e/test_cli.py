"""The command line, configurations good and bad, systemd, cosockctl, signals: the process around the engine."""

import ctypes
import json
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

import harness

ECHO = """
local service = ...
local listener, err, why = ba.socket.bind(service.port, {intf = "127.0.0.1"})
if not listener then error("cannot listen on " .. service.port .. ": " .. tostring(why or err)) end
listener:event(function(l)
   while true do
      local s = l:accept()
      if not s then break end
      s:event(function(s)
         while true do
            local data = s:read()
            if not data then break end
            s:write(service.greeting or data)
         end
      end, "s")
   end
end, "r")
"""


class CliCase(harness.Case):
    def run_once(self, *arguments, **options):
        """cosockd with these arguments to its end."""
        return self.finish([harness.COSOCKD, *arguments], **options)

    def finish(self, command, timeout=60, **options):
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout * harness.PATIENCE, check=False,
                             cwd=self.directory, stdin=subprocess.DEVNULL, **options)
        report = harness.SANITIZER_REPORT.search(run.stdout + run.stderr)
        if report:
            self.fail((run.stdout + run.stderr)[report.start():report.start() + 2000])
        return run

    def assert_status(self, run, status, pattern=None):
        self.assertEqual(run.returncode, status, run.stdout + run.stderr)
        if pattern:
            self.assertRegex(run.stdout + run.stderr, pattern)

    def echo_config(self, settings="", **more):
        """A configuration of one echo service on self.port."""
        if not hasattr(self, "port"):
            self.port = harness.free_port()
        self.write("echo.lua", ECHO)
        extra = "".join(f", {key} = {value}" for key, value in more.items())
        return self.config(f'{settings}\nservice "echo" {{ script = "echo.lua", port = {self.port}{extra} }}\n')

    def start(self, settings="", env=None):
        d = self.run_cosockd(["-c", self.echo_config(settings)], env=env)
        d.wait_listening([self.port])
        return d

    def open_echo(self):
        s = self.connect(self.port)
        s.sendall(b"hello")
        self.assertEqual(harness.read_exactly(s, 5), b"hello")
        return s

    def status(self):
        run = self.control("status", "--json")
        self.assert_status(run, 0)
        return json.loads(run.stdout)


class OptionsTest(CliCase):
    def test_version(self):
        for option in ("-v", "--version"):
            run = self.run_once(option)
            self.assert_status(run, 0, r"^cosockd \d+\.\d+")
            self.assertEqual(run.stdout.count("\n"), 1)

    def test_build_information(self):
        run = self.run_once("-V")
        self.assert_status(run, 0, r"(?m)^  lua +5\.4")
        self.assertTrue(run.stdout.endswith("\n"))
        self.assertRegex(run.stdout, r"Linux")
        self.assertIn("io_uring", run.stdout)

    def test_help(self):
        for option in ("-h", "-?", "--help"):
            run = self.run_once(option)
            self.assert_status(run, 0, r"^usage: cosockd")
            self.assertEqual(run.stderr, "")

    def test_settings(self):
        run = self.run_once("--settings")
        self.assert_status(run, 0, r"(?m)^stop_timeout ")

    def test_usage_errors_are_one_line(self):
        for arguments in (["-x"], ["--nonsense"], ["-c"], ["-w", "0"], ["-w", "2", "x.lua"], ["-s", "restart"], ["-c", "a", "b.lua"]):
            run = self.run_once(*arguments)
            self.assert_status(run, 2)
            self.assertEqual(run.stdout, "")
            self.assertEqual(run.stderr.count("\n"), 1, run.stderr)

    def test_number_of_workers(self):
        path = self.echo_config()
        self.assert_status(self.run_once("-t", "-w", "auto", "-c", path), 0)
        self.assert_status(self.run_once("-t", "-w", "4", "-c", path), 0)
        self.assert_status(self.run_once("-t", "-w", "many", "-c", path), 2, "1 to 256, or auto")


class CheckTest(CliCase):
    def test_good(self):
        path = self.echo_config()
        run = self.run_once("-t", "-c", path)
        self.assert_status(run, 0, "is good")
        run = self.run_once("-tq", "-c", path)
        self.assert_status(run, 0)
        self.assertEqual(run.stdout + run.stderr, "")

    def test_nothing_is_bound(self):
        taken = self.server(harness.echo)
        self.port = taken.port
        self.assert_status(self.run_once("-t", "-c", self.echo_config()), 0)
        self.assertFalse(os.path.exists(f"{self.directory}/control.sock"))

    def test_every_error_at_once(self):
        path = self.config('log_lvel = "info"\nstop_timeout = 30\nservice "a" { script = "none.lua" }\n'
                           'service "b" {}\nlua_memory = "12q"\n')
        run = self.run_once("-t", "-c", path)
        self.assert_status(run, 78)
        for part in ("log_level", "stop_timeout: .*unit", "none.lua", '"b" has no script', "lua_memory"):
            self.assertRegex(run.stderr, rf"(?m)^{re.escape(path)}:\d+: .*{part}")
        self.assertIn("5 errors", run.stderr)

    def test_each_service_finds_modules_beside_it(self):
        for name in ("a", "b", "c"):
            os.mkdir(f"{self.directory}/{name}")
            self.write(f"{name}/of_{name}.lua", "return {}\n")
            self.write(f"{name}/own.lua", f"require 'of_{name}'\n")
        blocks = "\n".join(f'service "{name}" {{ script = "{name}/own.lua" }}' for name in ("a", "b", "c"))
        self.assert_status(self.run_once("-t", "-c", self.config(blocks)), 0)

    def test_syntax_errors(self):
        path = self.config("service service\n")
        self.assert_status(self.run_once("-t", "-c", path), 78, r"cosockd\.lua:\d+: ")
        self.assert_status(self.run_once("-c", path), 78, r"cosockd\.lua:\d+: ")
        path = self.echo_config()
        self.write("echo.lua", "\nlocal x = = 1\n")
        self.assert_status(self.run_once("-t", "-c", path), 78, r"echo\.lua:2: ")

    def test_no_file(self):
        self.assert_status(self.run_once("-t", "-c", "none.lua"), 78, "none.lua: No such file")
        self.assert_status(self.run_once("-c", "none.lua"), 78, "none.lua: No such file")

    def test_endless_configuration(self):
        path = self.write("endless.lua", "\nwhile true do end\n")
        self.assert_status(self.run_once("-t", "-c", path, timeout=300), 78, r"endless\.lua:2: does not end")

    def test_shipped_files(self):
        conf = os.path.join(harness.ROOT, "conf")
        self.assert_status(self.run_once("-T", "-c", f"{conf}/cosockd.lua"), 0)
        if os.path.exists(os.path.join(harness.SCRIPTS, "proxy.lua")):
            self.assert_status(self.run_once("-t", "-c", f"{conf}/demo.lua"), 0)

    def test_nothing_is_written(self):
        script = self.write("writes.lua", """
            local args, done = ..., {}
            local function refused(what, result, ...)
              local why = table.concat({...}, " ")
              if result or not (why:find "EROFS" or why:find "Read%-only") then done[#done + 1] = what end
            end
            for _, mode in ipairs {"w", "a", "r+", "w+"} do
              refused("io:open " .. mode, io:open("kept", mode))
              refused("io.open " .. mode, _G.io.open(args.folder .. "/kept", mode))
            end
            refused("mkdir", io:mkdir "new")
            refused("remove", io:remove "kept")
            refused("rename", ba.openio "disk":rename("kept", "new"))
            refused("rmdir", io:rmdir "empty")
            refused("os.remove", os.remove(args.folder .. "/kept"))
            refused("os.rename", os.rename(args.folder .. "/kept", args.folder .. "/new"))
            refused("io.output", pcall(_G.io.output, args.folder .. "/new"))
            refused("os.tmpname", pcall(os.tmpname))
            assert(ba.create.sharkssl(nil, {keylog = args.folder .. "/keys"}))
            local file <close> = assert(io:open "kept")
            assert(file:read "a" == "text" and _G.io.open(args.folder .. "/kept"):read "a" == "text")
            if #done > 0 then error("not refused: " .. table.concat(done, ", ")) end
        """)
        folder = os.path.join(self.directory, "data")
        os.makedirs(os.path.join(folder, "empty"))
        with open(os.path.join(folder, "kept"), "w") as f:
            f.write("text")
        path = self.write("writes.conf", f'data_dir = "{folder}"\nservice "w" {{ script = "{script}", folder = "{folder}" }}')
        self.assert_status(self.run_once("-t", "-c", path), 0)
        self.assertEqual(sorted(os.listdir(folder)), ["empty", "kept"])
        with open(os.path.join(folder, "kept")) as f:
            self.assertEqual(f.read(), "text")
        alone = self.write("alone.lua", f'assert(not io:open("{folder}/new", "w") and not io.open("{folder}/new", "w"))')
        self.assert_status(self.run_once("-t", alone), 0)
        self.assertEqual(sorted(os.listdir(folder)), ["empty", "kept"])

    def test_a_script_alone(self):
        self.write("good.lua", "local x = 1\n")
        self.write("bad.lua", "local x = = 1\n")
        self.assert_status(self.run_once("-t", "good.lua"), 0)
        self.assert_status(self.run_once("-t", "bad.lua"), 78, r"bad\.lua:1: ")


class DumpTest(CliCase):
    def test_json(self):
        path = self.echo_config('stop_timeout = "1m"', list='{ 1, "two", { deep = true } }')
        run = self.run_once("-T", "-c", path)
        self.assert_status(run, 0)
        dump = json.loads(run.stdout)
        self.assertEqual(dump["settings"]["stop_timeout"], "1m")
        self.assertEqual(dump["settings"]["lua_memory"], "256M")
        self.assertIsNone(dump["settings"]["user"])
        service = dump["services"][0]
        self.assertEqual((service["name"], service["file"]), ("echo", path))
        self.assertEqual(service["path"], f"{self.directory}/echo.lua")
        self.assertEqual(service["arguments"]["list"], [1, "two", {"deep": True}])

    def test_errors_instead(self):
        run = self.run_once("-T", "-c", self.config("nonsense = 1\n"))
        self.assert_status(run, 78, "nonsense")
        self.assertEqual(run.stdout, "")

    def test_includes_environment_and_prefix(self):
        os.makedirs(f"{self.directory}/conf.d")
        os.makedirs(f"{self.directory}/prefix")
        self.write("conf.d/20.lua", 'service "two" { script = "x.lua" }\n')
        self.write("conf.d/10.lua", 'service "one" { script = "x.lua", secret = env "CLI_TEST" }\n')
        self.write("x.lua", "")
        path = self.config('include "conf.d/*.lua"\n')
        run = self.run_once("-T", "-c", path, env={**os.environ, "CLI_TEST": "swordfish"})
        self.assert_status(run, 0)
        services = json.loads(run.stdout)["services"]
        self.assertEqual([s["name"] for s in services], ["one", "two"])
        self.assertEqual(services[0]["arguments"]["secret"], "swordfish")
        self.write("prefix/x.lua", "")
        run = self.run_once("-T", "-c", path, "-p", f"{self.directory}/prefix",
                            env={**os.environ, "CLI_TEST": ""})
        self.assertEqual(json.loads(run.stdout)["services"][0]["path"], f"{self.directory}/prefix/x.lua")


class ScriptTest(CliCase):
    def test_arguments_and_status(self):
        self.write("args.lua", "print(arg[0], arg[1], select('#', ...), (select(2, ...)))\nos.exit(7)\n")
        run = self.run_once("args.lua", "a", "-t", "c")
        self.assert_status(run, 7, r"args\.lua\ta\t3\t-t")

    def test_where_a_script_is(self):
        """Below -p DIR, here, among those that are shipped."""
        run = self.run_once("echo.lua")
        self.assert_status(run, 78, r"scripts/echo\.lua:\d+: listen: no address")
        self.write("echo.lua", "print 'here'")
        self.assert_status(self.run_once("echo.lua"), 0, "^here")
        os.makedirs(f"{self.directory}/prefix")
        self.write("prefix/echo.lua", "print 'there'")
        self.assert_status(self.run_once("-p", "prefix", "echo.lua"), 0, "^there")
        self.assert_status(self.run_once("-p", "nowhere", "echo.lua"), 0, "^here")
        self.assert_status(self.run_once("nothing.lua"), 78, "cannot open nothing.lua: No such file")

    def test_end_of_the_chunk(self):
        self.assert_status(self.run_once("-e", "print('hi')"), 0, "^hi")

    def test_trace(self):
        self.write("t.lua", 'trace("a", nil, 1.5, true, nil)\nlocal function f() trace "b" end\nf()\n')
        run = self.run_once("t.lua")
        self.assert_status(run, 0, r"notice t\.lua:1: a\tnil\t1\.5\ttrue\tnil\n")
        self.assert_status(run, 0, r"notice t\.lua:2: b\n")

    def test_text_and_script(self):
        self.write("s.lua", "print('second')\n")
        self.assert_status(self.run_once("-e", "print('first')", "s.lua"), 0, "first\nsecond")

    def test_errors(self):
        self.assert_status(self.run_once("none.lua"), 78, "none.lua")
        self.write("bad.lua", "\nerror('no good')\n")
        self.assert_status(self.run_once("bad.lua"), 78, r"bad\.lua:2: no good")
        run = self.run_once("-e", "ba.sharkclient()", env=dict(os.environ, SSL_CERT_FILE="none.pem"))
        self.assert_status(run, 78, "no authorities to trust: none.pem: no such file")

    def test_an_error_later(self):
        self.write("late.lua", "ba.sleep(10)\nerror('late')\n")
        self.assert_status(self.run_once("late.lua"), 1, r"late\.lua:2: late")

    def test_a_bind_that_fails_later(self):
        """The address and the reason, where the script has no more than "bind" to say."""
        port = harness.free_port()
        self.write("late.lua", f"""
            ba.sleep(10)
            local held = ba.socket.udpcon({port})
            ba.thread.run(function() assert(ba.socket.udpcon({port})) end)
            ba.sleep(10)
            assert(ba.socket.bind({port}))""")
        with socket.create_server(("0.0.0.0", port)):
            run = self.run_once("late.lua")
        for line in 4, 6:
            self.assert_status(run, 1, rf"late\.lua:{line}: bind 0\.0\.0\.0:{port}: address already in use")

    def test_libraries(self):
        script = self.write("script.lua", 'print(require "cosock.duration"("5s"))\n')
        self.assertEqual(self.run_once(script).stdout, "5000\n")  # of the tree it was built from
        alone = shutil.copy(harness.COSOCKD, self.directory)
        run = self.finish([alone, script])
        if run.stdout != "5000\n":  # where none is installed
            self.assert_status(run, 78, "no file '/.*/cosockd/scripts/lib/cosock/duration.lua'")
        folder = os.path.join(self.directory, "scripts", "lib", "cosock")
        os.makedirs(folder)
        self.write("scripts/lib/cosock/duration.lua", "return function() return 'beside the program' end")
        self.assertEqual(self.finish([alone, script]).stdout, "beside the program\n")

    def test_signals_end_it(self):
        port = harness.free_port()
        text = f"ba.socket.bind({port}):event(function(l) while l:accept() do end end, 'r')\n"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            d = self.cosockd(text, listens=[port])
            d.signal(number)
            self.assertEqual(d.wait_exit(), 0, d.log())


class UnavailableTest(CliCase):
    @staticmethod
    def deny_io_uring():
        """A filter under which io_uring_setup (425) is not permitted, as in many containers."""
        program = b"".join(struct.pack("HBBI", *instruction) for instruction in (
            (0x20, 0, 0, 0),           # load the number of the call
            (0x15, 0, 1, 425),         # is it this one?
            (0x06, 0, 0, 0x00050001),  # errno EPERM
            (0x06, 0, 0, 0x7FFF0000)))  # allow
        buffer = ctypes.create_string_buffer(program)
        fprog = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        if libc.prctl(22, 2, ctypes.create_string_buffer(fprog), 0, 0) != 0:  # PR_SET_SECCOMP
            raise OSError(ctypes.get_errno(), "seccomp")

    def test_no_io_uring(self):
        for arguments in (["-c", self.echo_config()], ["-t", "-c", self.echo_config()], ["-e", "print(1)"]):
            run = self.run_once(*arguments, preexec_fn=self.deny_io_uring)
            self.assert_status(run, 69, "io_uring")
            self.assertEqual(run.stderr.count("\n"), 1, run.stderr)
        self.assert_status(self.run_once("-V", preexec_fn=self.deny_io_uring), 0, "io_uring")


class StartTest(CliCase):
    def test_port_in_use(self):
        taken = self.server(harness.echo)
        self.port = taken.port
        run = self.run_once("-c", self.echo_config())
        self.assert_status(run, 1, rf"echo\.lua:\d+: cannot listen on {taken.port}: .*EADDRINUSE")
        self.assertFalse(os.path.exists(f"{self.directory}/control.sock"))

    def test_script_fails(self):
        path = self.echo_config()
        self.write("echo.lua", "\n\nerror('out of order')\n")
        self.assert_status(self.run_once("-c", path), 78, r"echo\.lua:3: out of order")

    def test_no_service(self):
        d = self.service("")
        d.wait_log("there is no service")
        self.control("stop")
        self.assertEqual(d.wait_exit(), 0)

    def test_second_daemon_on_the_same_socket(self):
        d = self.start()
        run = self.run_once("-c", f"{self.directory}/cosockd.lua")
        self.assert_status(run, 1, "already running")
        self.assertTrue(d.alive())
        self.assert_status(self.control("status"), 0)

    def test_socket_left_behind(self):
        path = f"{self.directory}/control.sock"
        d = self.start()
        d.process.kill()
        d.process.wait()
        d.ended = True
        self.assertTrue(os.path.exists(path))
        d = self.start()
        self.assert_status(self.control("status"), 0)
        d.signal(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 0)
        self.assertFalse(os.path.exists(path))

    def test_limit_of_files_is_raised(self):
        soft = min(256, harness.NOFILE)
        path = self.echo_config()
        command = ["sh", "-c", f'ulimit -S -n {soft}; exec "$0" "$@"', harness.COSOCKD, "-c", path]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            harness.until(lambda: harness.listening(self.port), 10, "listening")
            self.assertEqual(*resource.prlimit(process.pid, resource.RLIMIT_NOFILE))
        finally:
            process.terminate()
            self.assertEqual(process.wait(20 * harness.SLOW), 0)

    def test_log_file_that_cannot_be_opened(self):
        path = self.echo_config('log_file = "no/such/folder/log"')
        self.assert_status(self.run_once("-c", path), 1, "no/such/folder/log: No such file")


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class PrivilegesTest(CliCase):
    def test_root_is_given_up(self):
        nobody = pwd.getpwnam("nobody")
        os.chmod(self.directory, 0o755)
        d = self.start('user = "nobody"\nlog_file = "the.log"')
        harness.until(lambda: self.control("status").returncode == 0, 10, "an answer")
        for tid in os.listdir(f"/proc/{d.pid}/task"):
            with open(f"/proc/{d.pid}/task/{tid}/status", encoding="ascii") as f:
                status = f.read()
            self.assertIn(f"Uid:\t{nobody.pw_uid}\t{nobody.pw_uid}\t{nobody.pw_uid}\t{nobody.pw_uid}\n", status)
            self.assertIn(f"Gid:\t{nobody.pw_gid}\t{nobody.pw_gid}\t{nobody.pw_gid}\t{nobody.pw_gid}\n", status)
            self.assertRegex(status, r"CapEff:\t0+\n")
            self.assertRegex(status, r"CapPrm:\t0+\n")
        self.assertEqual(os.stat(f"{self.directory}/the.log").st_uid, nobody.pw_uid)
        self.assertEqual(os.stat(f"{self.directory}/control.sock").st_uid, nobody.pw_uid)
        self.assert_status(self.control("reopen"), 0)
        self.assert_status(self.control("reload", "--wait"), 0)
        self.open_echo().close()

    def test_user_without_root(self):
        os.chmod(self.directory, 0o755)
        try:
            run = self.run_once("-c", self.echo_config('user = "root"'), user="nobody", group="nogroup",
                                extra_groups=[])
        except PermissionError:
            self.skipTest("nobody may not run this binary where it lies")
        self.assert_status(run, 1, "not started as root")


class NotifyTest(CliCase):
    def setUp(self):
        super().setUp()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(f"{self.directory}/notify.sock")
        self.manager.settimeout(20 * harness.SLOW)
        self.addCleanup(self.manager.close)
        self.environment = {"NOTIFY_SOCKET": f"{self.directory}/notify.sock"}

    def next(self, key):
        """The next message that has the key, as a dictionary."""
        while True:
            fields = dict(line.split("=", 1) for line in self.manager.recv(4096).decode().splitlines())
            if key in fields:
                return fields

    def test_life(self):
        d = self.start()
        ready = self.next("READY")
        self.assertRegex(ready["STATUS"], r"running: generation 1, 0 connections")

        before = time.monotonic_ns() // 1000
        d.signal(signal.SIGHUP)
        reloading = self.next("RELOADING")
        self.assertEqual(reloading["RELOADING"], "1")
        self.assertTrue(before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000)
        self.assertRegex(self.next("READY")["STATUS"], "generation 2")

        self.config("nonsense = 1\n")
        d.expect("nonsense")
        d.signal(signal.SIGHUP)
        self.next("RELOADING")
        self.assertRegex(self.next("READY")["STATUS"], "generation 2")

        s = self.open_echo()
        d.signal(signal.SIGTERM)
        self.next("STOPPING")
        self.assertGreater(int(self.next("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]), 1000000)
        s.close()
        self.assertEqual(d.wait_exit(), 0)

    def test_watchdog(self):
        # The variable must name the process: the shell knows its number and becomes cosockd.
        path = self.echo_config()
        process = subprocess.Popen(
            ["sh", "-c", 'WATCHDOG_PID=$$ exec "$0" "$@"', harness.COSOCKD, "-c", path],
            env={**os.environ, **self.environment, "WATCHDOG_USEC": "200000"}, stderr=subprocess.DEVNULL)
        try:
            for _ in range(3):
                self.assertEqual(self.next("WATCHDOG")["WATCHDOG"], "1")
        finally:
            process.terminate()
            self.assertEqual(process.wait(20 * harness.SLOW), 0)

    def test_not_ready_when_the_start_fails(self):
        path = self.echo_config()
        self.write("echo.lua", "error('no')\n")
        self.assert_status(self.run_once("-c", path, env={**os.environ, **self.environment}), 78)
        self.manager.setblocking(False)
        try:
            while True:
                self.assertNotIn(b"READY", self.manager.recv(4096))
        except BlockingIOError:
            pass


class JournalTest(CliCase):
    def test_priorities_when_stderr_is_the_journal(self):
        path = f"{self.directory}/journal"
        with open(path, "wb") as journal:
            st = os.fstat(journal.fileno())
            process = subprocess.Popen(
                [harness.COSOCKD, "-c", self.echo_config()], stderr=journal,
                env={**os.environ, "JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"})
        harness.until(lambda: harness.listening(self.port), 10, "listening")
        process.terminate()
        self.assertEqual(process.wait(20 * harness.SLOW), 0)
        with open(path, encoding="utf-8") as f:
            lines = f.read().splitlines()
        self.assertTrue(lines)
        for line in lines:
            self.assertRegex(line, r"^<[3-7]>")


class ControlTest(CliCase):
    def test_not_running(self):
        run = self.control("status")
        self.assert_status(run, 69, "not running")
        self.assertEqual(run.stderr.count("\n"), 1)
        self.assert_status(self.run_once("-s", "stop", "-c", self.echo_config()), 69, "not running")
        self.assert_status(self.run_once("-s", "stop", "-c", self.config('control_socket = ""')), 69, "the daemon has none")
        self.assert_status(self.run_once("-s", "stop", "-c", "nothing.lua"), 78, "nothing.lua: No such file")

    def test_usage(self):
        for arguments in ([], ["dance"], ["status", "--wait"], ["reload", "--json"], ["-x"], ["stop", "now"],
                          ["-s"]):
            run = self.finish([harness.COSOCKCTL, *arguments])
            self.assert_status(run, 2)
            self.assertEqual(run.stderr.count("\n"), 1, run.stderr)
        self.assert_status(self.finish([harness.COSOCKCTL, "--help"]), 0, "usage")
        self.assert_status(self.finish([harness.COSOCKCTL, "--version"]), 0, "cosockctl")

    def test_status(self):
        self.start()
        s = self.open_echo()
        run = self.control("status")
        self.assert_status(run, 0, r"(?m)^connections +1 open; 1 accepted")
        self.assertRegex(run.stdout, r"(?m)^generation 1 +current")
        status = self.status()
        self.assertEqual((status["phase"], status["generation"], status["connections"]), ("running", 1, 1))
        self.assertEqual(status["counters"]["bytes_in"], 5)
        self.assertEqual(status["configuration"], f"{self.directory}/cosockd.lua")
        s.close()
        harness.until(lambda: self.status()["connections"] == 0, 10, "no connection")

    def test_reload(self):
        d = self.start()
        kept = self.open_echo()
        self.echo_config(greeting='"HELLO"')
        run = self.control("reload", "--wait")
        self.assert_status(run, 0, "generation 2")
        with self.connect(self.port) as s:
            s.sendall(b"hello")
            self.assertEqual(harness.read_exactly(s, 5), b"HELLO")
        kept.sendall(b"still")
        self.assertEqual(harness.read_exactly(kept, 5), b"still")
        self.assertEqual([g["state"] for g in self.status()["generations"]], ["current", "draining"])
        kept.close()
        harness.until(lambda: len(self.status()["generations"]) == 1, 10, "the old generation's end")
        d.wait_log("generation ended generation=1")

    def test_refused_reload(self):
        d = self.start()
        d.expect(r"cosockd\.lua:\d+: unknown setting")
        self.config("nonsense = 1\nlog_lvel = 2\n")
        run = self.control("reload", "--wait")
        self.assert_status(run, 1)
        self.assertRegex(run.stderr, r'(?m)^\S+/cosockd\.lua:\d+: unknown setting "nonsense"$')
        self.assertRegex(run.stderr, r'(?m)^\S+/cosockd\.lua:\d+: .*did you mean "log_level"')
        self.open_echo().close()
        d.expect(r"echo\.lua:1: ")
        self.echo_config()
        self.write("echo.lua", "local x = = 1\n")
        run = self.control("reload", "--wait")
        self.assert_status(run, 1, r"echo\.lua:1: ")
        self.open_echo().close()
        self.assertEqual(self.status()["reloads_refused"], 2)
        self.echo_config()
        self.assert_status(self.control("reload", "--wait"), 0)

    def test_reload_that_fails_in_one_worker(self):
        """What has been loaded in the other one ends while its configuration is still there."""
        d = self.start("workers = 2")
        d.expect("not the first")
        self.write("once.lua", """
            if not io:mkdir("lock") then error("not the first") end
            local last <close> = setmetatable({}, {__close = function() print(tostring(ba.openio "disk")) end})
            ba.sleep(3600000)
        """)
        self.config('workers = 2\nservice "once" { script = "once.lua" }\n')
        for n in range(5):
            self.assert_status(self.control("reload", "--wait"), 1, "not the first")
            log = d.log()
            self.assertEqual(log.count(f"io ({self.directory})"), n + 1)
            self.assertLess(log.rindex("io ("), log.rindex("reload refused: "), "it ends before the reload does")
            os.rmdir(f"{self.directory}/lock")
        self.open_echo().close()

    def test_reload_without_waiting(self):
        d = self.start()
        self.assert_status(self.control("reload"), 0, "reloading")
        d.wait_log("reloaded generation=2")
        self.assert_status(self.run_once("-s", "reload", "-c", f"{self.directory}/cosockd.lua"), 0)
        d.wait_log("reloaded generation=3")

    def test_reload_changes_what_it_can(self):
        d = self.start()
        self.echo_config('log_level = "debug"\nlua_memory = "16M"\nsockets_max = 64')
        run = self.control("reload", "--wait")
        self.assert_status(run, 0, "generation 2\nwarning: sockets_max has changed, which takes a restart\n")
        d.wait_log("sockets_max has changed, which takes a restart")
        self.assertNotRegex(d.log(), "(log_level|lua_memory) has changed")

    def test_reload_changes_limits_of_scripts(self):
        """The new generation has new ones."""
        script = """
            local file = io:open("which")
            trace("data", file and file:read("a") or "none")
            local ok, err = pcall(string.rep, "x", 32 << 20)
            trace("memory", ok)
            local began = os.clock()
            while os.clock() - began < 0.3 do end
            """
        for name in "ab":
            os.mkdir(f"{self.directory}/{name}")
            self.write(f"{name}/which", name)
        self.write("limits.lua", script)
        service = 'service "limits" { script = "limits.lua" }'
        d = self.service(f'cpu_budget = "1h"\ndata_dir = "a"\n{service}')
        d.wait_log(r"data\s+a\s*$")
        d.wait_log(r"memory\s+true")
        self.config(f'cpu_budget = "1h"\ndata_dir = "b"\nlua_memory = "16M"\n{service}')
        d.wait_log("started")
        self.assert_status(self.control("reload", "--wait"), 0)
        d.wait_log(r"data\s+b\s*$")
        d.wait_log(r"memory\s+false")
        self.config(f'cpu_budget = "20ms"\ndata_dir = "b"\n{service}')
        d.expect("reload refused: .*CPU budget of 20 ms")
        self.assert_status(self.control("reload", "--wait"), 1, "CPU budget of 20 ms")

    def test_reload_changes_connections(self):
        """Those that are open, too."""
        d = self.start("log_connections = false")
        self.open_echo().close()
        harness.until(lambda: self.status()["counters"]["closed"] == 1, 10, "the end of the connection")
        self.assertNotIn("connection closed", d.log())
        s = self.open_echo()
        self.echo_config("log_connections = true")
        self.assert_status(self.control("reload", "--wait"), 0)
        s.close()
        d.wait_log("connection closed")

    def test_reload_drain_timeout(self):
        d = self.start('reload_drain_timeout = "300ms"')
        s = self.open_echo()
        self.assert_status(self.control("reload", "--wait"), 0)
        self.assertTrue(harness.ended(s))
        d.wait_log("generation cut generation=1")
        d.wait_log("generation ended generation=1")
        self.open_echo().close()

    def test_many_at_once(self):
        """Each of them learns the result of a reload that began after it had asked."""
        d = self.start()
        command = [harness.COSOCKCTL, "-s", f"{self.directory}/control.sock", "reload", "--wait"]
        runs = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(20)]
        for run in runs:
            self.assertIn(b"reloaded", run.communicate(timeout=60 * harness.PATIENCE)[0])
            self.assertEqual(run.returncode, 0)
        self.assertTrue(d.alive())

    def test_bad_clients(self):
        self.start()
        silent = []
        for data in (b"", b"sta", b"\0" * 1000, b"status\n", b"reload wait\n"):
            s = socket.socket(socket.AF_UNIX)
            s.connect(f"{self.directory}/control.sock")
            s.sendall(data)
            silent.append(s)
        self.assert_status(self.control("status"), 0)
        for s in silent:
            s.close()
        self.assert_status(self.control("status"), 0)

    def test_reopen(self):
        d = self.start('log_file = "the.log"')
        log = f"{self.directory}/the.log"
        harness.until(lambda: os.path.getsize(log) > 0, 10, "a first line")
        os.rename(log, log + ".1")
        self.assert_status(self.control("reopen"), 0)
        self.assertTrue(os.path.exists(log))
        os.rename(log, log + ".2")
        d.signal(signal.SIGUSR1)
        harness.until(lambda: os.path.exists(log), 10, "a new file")
        self.assertEqual(d.log(), "")

    def test_stop_and_quit(self):
        d = self.start()
        self.assert_status(self.control("stop"), 0)
        self.assertEqual(d.wait_exit(), 0)
        d = self.start()
        self.assert_status(self.control("quit"), 0)
        self.assertEqual(d.wait_exit(), 0)
        d = self.start()
        self.assert_status(self.run_once("-s", "quit", "-c", f"{self.directory}/cosockd.lua"), 0)
        self.assertEqual(d.wait_exit(), 0)


class SignalTest(CliCase):
    def test_hangup_with_a_broken_configuration(self):
        d = self.start()
        d.expect("reload refused: .*nonsense")
        self.config("nonsense = 1\n")
        d.signal(signal.SIGHUP)
        d.wait_log("reload refused generation=1 goes on")
        self.open_echo().close()

    def test_state_to_the_log(self):
        d = self.start()
        d.signal(signal.SIGUSR2)
        d.wait_log(r"state: generation 1 +current")

    def test_term_lets_connections_finish(self):
        d = self.start('stop_timeout = "30s"')
        s = self.open_echo()
        d.signal(signal.SIGTERM)
        harness.until(lambda: not harness.listening(self.port), 10, "the end of listening")
        s.sendall(b"later")
        self.assertEqual(harness.read_exactly(s, 5), b"later")
        self.assertEqual(self.status()["phase"], "draining")
        self.assert_status(self.control("reload", "--wait"), 1, "stopping")
        s.close()
        self.assertEqual(d.wait_exit(), 0)
        self.assertNotIn("cut=", d.log())

    def test_second_term_is_at_once(self):
        d = self.start('stop_timeout = "never"')
        s = self.open_echo()
        d.signal(signal.SIGTERM)
        d.wait_log("stopping by=SIGTERM")
        d.signal(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 0)
        d.wait_log(r'connections cut=1 reason="second stop request"')
        s.close()

    def test_deadline(self):
        d = self.start('stop_timeout = "300ms"')
        s = self.open_echo()
        d.signal(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 0)
        self.assertRegex(d.log(), r'connections cut=1 reason="stop_timeout"')
        s.close()

    def test_quit_has_no_deadline_until_term(self):
        d = self.start('stop_timeout = "300ms"')
        s = self.open_echo()
        d.signal(signal.SIGQUIT)
        d.wait_log("stopping by=SIGQUIT timeout=never")
        s.sendall(b"still")
        self.assertEqual(harness.read_exactly(s, 5), b"still")
        self.assertTrue(d.alive())
        d.signal(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 0)
        self.assertRegex(d.log(), "cut=1")
        s.close()


UNDEFINED = """
local config = ...
limit = 10                                   -- a global of the script
local function handler(sock)
   sock:write(tostirng(limit))
   counter = (counter or 0) + 1
   if debugging then trace(debugging) end    -- asked for first
   local unpack = unpack or table.unpack
   if type(jit) == "table" then jit.off() end
   for _, name in ipairs { "a" } do tracep(false, 5, name, _VERSION, later) end
   local _ENV = { own = 1 }
   return own, absent_field
end
local function many()
   %s
   return misspelled, misspelled
end
function set_later() later = 1 end
local function set_more() _G.more = 1 _G.most = 2 end
local function use_more() return more, most end
app = _G
"""


class UndefinedGlobals(CliCase):
    def check(self, script, *arguments):
        return self.run_once("-t", script, *arguments)

    def test_script(self):
        filler = " ".join(f"local _ = 'constant {i}'" for i in range(150)) + "\n   do local t = {" + \
            ", ".join(f"'c{i}'" for i in range(300)) + "} end"
        self.write("web.lua", UNDEFINED % filler)
        run = self.check("web.lua")
        self.assert_status(run, 78)
        self.assertEqual(run.stderr, "web.lua:5: undefined global 'tostirng'\nweb.lua:17: undefined global 'misspelled'\n")

    def test_modules_and_services(self):
        self.write("helper.lua", "shared = 1\nreturn function() return shared, typo end\n")
        self.write("web.lua", "own = require 'helper'\nlocal function f() return own, shared, missing, io, ba.socket end\n")
        self.write("other.lua", "local function f() return own, shared end\n")
        run = self.run_once("-t", "-c", self.config('service "a" { script = "web.lua" }\nservice "b" { script = "other.lua" }\n'
                                                       'service "c" { script = "other.lua" }\n'))
        self.assert_status(run, 78)
        self.assertRegex(run.stderr, r"web\.lua:2: undefined global 'missing'")
        self.assertRegex(run.stderr, r"helper\.lua:2: undefined global 'typo'")
        self.assertRegex(run.stderr, r"other\.lua:1: undefined global 'own'")  # services share no globals
        self.assertEqual(run.stderr.count("undefined"), 3, run.stderr)

    def test_our_scripts(self):
        scripts = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")
        libraries = [n[:-4] for n in os.listdir(os.path.join(scripts, "lib", "cosock")) if n.endswith(".lua")]
        self.assertTrue(libraries)
        path = f"package.path = '{scripts}/lib/?.lua;' .. package.path\n"
        self.assert_status(self.run_once("-t", "-e", path + "\n".join(f"require 'cosock.{n}'" for n in libraries)), 0)

    def test_runs_all_the_same(self):
        self.write("web.lua", "local function never() return misspelled end\nprint 'ran'\n")
        self.assert_status(self.run_once("web.lua"), 0, "ran")


if __name__ == "__main__":
    harness.main()
