# ctest: serial
"""SIGHUP under load, reloads that change something or fail."""

import os
import signal
import threading
import time

import harness


class ReloadBase(harness.Case):
    def configure(self, port, upstream):
        """Writes the configuration that the next reload reads."""
        self.config(f'service "web" {{ script = "proxy.lua", listen = {{"127.0.0.1:{port}"}}, '
                    f'upstreams = {{"127.0.0.1:{upstream}"}} }}\n')

    def start(self, upstream):
        self.daemon, self.port = self.proxy([upstream])


@harness.both_descriptor_kinds
class ReloadUnderLoadTest(ReloadBase):
    def under_load(self, headers, seconds=6):
        nginx = harness.Nginx(self)
        nginx.file("page", harness.noise(2000))
        self.start(nginx.port)
        stop = threading.Event()
        sent = []

        def hang_up():
            while not stop.wait(0.1):
                self.daemon.signal(signal.SIGHUP)
                sent.append(time.monotonic())

        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            requests, errors = harness.wrk(self, f"http://127.0.0.1:{self.port}/page", seconds, 40, headers)
        finally:
            stop.set()
            thread.join()
        self.assertEqual(errors, "", f"failed requests among {requests} during {len(sent)} reloads")
        self.assertGreater(requests, 1000 // harness.SLOW)
        self.assertGreater(len(sent), seconds * 5)
        self.assertTrue(self.daemon.alive())
        # The last one is not lost: a change made now becomes effective.
        origin = self.server(harness.echo)
        self.configure(self.port, origin.port)
        self.daemon.signal(signal.SIGHUP)
        harness.until(lambda: self.echoes() or not self.daemon.alive(), 10, "the last reload")

    def echoes(self):
        try:
            self.assert_echo(self.port, b"GET", 2)
            return True
        except (OSError, EOFError, AssertionError):
            return False

    def test_keep_alive_connections(self):
        self.under_load([])

    def test_new_connections(self):
        self.under_load(["Connection: close"])


@harness.both_descriptor_kinds
class ReloadTest(ReloadBase):
    def named(self, name):
        def serve(connection):
            while connection.recv(1000):
                connection.sendall(name)
        return self.server(serve)

    def ask(self, connection):
        connection.sendall(b"who?")
        return connection.recv(100)

    def test_old_connections_stay_and_new_ones_get_the_new_scripts(self):
        old, new = self.named(b"old"), self.named(b"new")
        self.start(old.port)
        kept = self.connect(self.port)
        self.assertEqual(self.ask(kept), b"old")
        self.configure(self.port, new.port)
        run = self.reload()
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        with self.connect(self.port) as fresh:
            self.assertEqual(self.ask(fresh), b"new")
        for _ in range(3):
            self.assertEqual(self.reload().returncode, 0)
        self.assertEqual(self.ask(kept), b"old")
        kept.close()

    def test_listeners_come_and_go(self):
        origin = self.named(b"origin")
        self.start(origin.port)
        kept = self.connect(self.port)
        self.assertEqual(self.ask(kept), b"origin")
        before, other = self.port, harness.free_port()
        self.configure(other, origin.port)
        self.assertEqual(self.reload().returncode, 0)
        self.daemon.wait_listening([other])
        harness.until(lambda: not harness.listening(before), 5, "the old listener closed")
        self.assertEqual(self.ask(kept), b"origin")
        with self.connect(other) as s:
            self.assertEqual(self.ask(s), b"origin")
        kept.close()

    def broken(self, text, pattern):
        """A reload with this configuration fails, says why, and changes nothing."""
        origin = self.named(b"origin")
        self.start(origin.port)
        kept = self.connect(self.port)
        self.assertEqual(self.ask(kept), b"origin")
        self.config(text)
        run = self.reload()
        self.assertNotEqual(run.returncode, 0, run.stdout)
        self.assertRegex(run.stdout + run.stderr, pattern)
        self.daemon.wait_log(pattern)
        self.daemon.expect(pattern)
        self.assertEqual(self.ask(kept), b"origin")
        with self.connect(self.port) as s:
            self.assertEqual(self.ask(s), b"origin")
        self.configure(self.port, origin.port)
        run = self.reload()
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        with self.connect(self.port) as s:
            self.assertEqual(self.ask(s), b"origin")
        kept.close()

    def test_syntax_error_in_the_configuration(self):
        self.broken("service service\n", r"cosockd\.lua:\d+:")

    def test_unknown_setting(self):
        self.broken('log_levle = "info"\n', r"cosockd\.lua:\d+:.*log_level")

    def test_script_is_missing(self):
        self.broken('service "web" { script = "nowhere.lua" }\n', r"nowhere\.lua")

    def test_syntax_error_in_a_script(self):
        self.write("bad.lua", "local x = = 1\n")
        self.broken('service "web" { script = "bad.lua" }\n', r"bad\.lua:1:")

    def test_script_fails_while_loading(self):
        self.write("bad.lua", "\n\nerror('not today')\n")
        self.broken('service "web" { script = "bad.lua" }\n', r"bad\.lua:3: not today")

    def test_port_of_the_new_scripts_is_taken(self):
        taken = self.server(harness.echo)
        self.broken(f'service "web" {{ script = "proxy.lua", listen = {{"127.0.0.1:{taken.port}"}}, '
                    f'upstreams = {{"127.0.0.1:{taken.port}"}} }}\n', rf"{taken.port}")

    def test_endless_loop_while_loading(self):
        self.write("bad.lua", "\nwhile true do end\n")
        self.broken('service "web" { script = "bad.lua" }\n', r"bad\.lua:2:")

    def test_many_reloads_leak_nothing(self):
        origin = self.named(b"origin")
        self.start(origin.port)
        for _ in range(20):
            self.assertEqual(self.reload().returncode, 0)
        before = self.daemon.rss_settled()
        descriptors = len(os.listdir(f"/proc/{self.daemon.pid}/fd"))
        for _ in range(200 // harness.SLOW):
            self.assertEqual(self.reload().returncode, 0)
        self.assertLessEqual(len(os.listdir(f"/proc/{self.daemon.pid}/fd")), descriptors)
        if not harness.SANITIZER:
            self.assertLess(self.daemon.rss_settled() - before, 2 << 20)


@harness.both_descriptor_kinds
class GenerationTest(harness.Case):
    """Connections that scripts hold keep the scripts they began with."""

    def script(self, version):
        self.write("versions.lua", f"""
local args = ...
local version = "{version}"
local function serve(s)
   while true do
      local data = s:read()
      if not data or not s:write(version) then break end
   end
end
local listener = assert(ba.socket.bind(args.port, {{intf = "127.0.0.1"}}))
listener:event(function(l)
   while true do
      local s = l:accept()
      if not s then break end
      s:event(serve, "s")
   end
end, "r")
""")

    def start(self, settings=""):
        self.port = harness.free_port()
        self.script("one")
        self.daemon = self.service(f'{settings}\nservice "v" {{ script = "versions.lua", port = {self.port} }}',
                                   [self.port])

    def ask(self, connection):
        connection.sendall(b"?")
        return connection.recv(100)

    def open(self):
        s = self.connect(self.port)
        return s, self.ask(s)

    def generations(self):
        return [g["state"] for g in self.status()["generations"]]

    def test_each_connection_keeps_its_scripts(self):
        self.start()
        opened = []
        for version in ("one", "two", "three"):
            self.script(version)
            if version != "one":
                self.assertEqual(self.reload().returncode, 0)
            s, answer = self.open()
            self.assertEqual(answer, version.encode())
            opened.append((s, answer))
        for s, answer in opened:
            self.assertEqual(self.ask(s), answer)
        self.assertEqual(sorted(self.generations()), ["current", "draining", "draining"])
        for s, _ in opened[:2]:
            s.close()
        harness.until(lambda: self.generations() == ["current"], 10, "the old generations ended")
        self.assertEqual(self.ask(opened[2][0]), b"three")
        opened[2][0].close()

    def test_reload_drain_timeout_cuts_old_connections(self):
        self.start('reload_drain_timeout = "1s"')
        old, _ = self.open()
        self.script("two")
        begun = time.monotonic()
        self.assertEqual(self.reload().returncode, 0)
        new, answer = self.open()
        self.assertEqual(answer, b"two")
        self.assertTrue(harness.ended(old))
        self.assertGreaterEqual(time.monotonic() - begun, 0.8)
        harness.until(lambda: self.generations() == ["current"], 10, "the old generation ended")
        self.assertEqual(self.ask(new), b"two")
        old.close()
        new.close()

    def test_reload_under_load(self):
        """Every connection gets answers of one version only, and none is refused."""
        self.start()
        stop = threading.Event()
        failures = []

        def client():
            while not stop.is_set():
                try:
                    with harness.socket.create_connection(("127.0.0.1", self.port), 20 * harness.SLOW) as s:
                        answers = {self.ask(s) for _ in range(5)}
                        if len(answers) != 1:
                            failures.append(answers)
                except OSError as e:
                    failures.append(e)

        threads = [threading.Thread(target=client) for _ in range(8)]
        for t in threads:
            t.start()
        for i in range(40):
            self.script(f"v{i}")
            run = self.reload()
            if run.returncode != 0:
                failures.append(run.stderr)
        stop.set()
        for t in threads:
            t.join()
        self.assertEqual(failures, [])
        harness.until(lambda: self.generations() == ["current"], 20, "the old generations ended")


if __name__ == "__main__":
    harness.main()
