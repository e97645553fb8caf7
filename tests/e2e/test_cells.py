# ctest: serial
"""Several cells and several workers: filling and emptying them, reloading all or none, what is told of them.

COSOCKD_TEST_RELOADS=N (default 100) sets how many reloads the test under traffic does, and
COSOCKD_TEST_TUNNELS=N (default 300) how many tunnels are held meanwhile.
"""

import os
import select
import signal
import subprocess
import threading

import harness

RELOADS = int(os.environ.get("COSOCKD_TEST_RELOADS", 20 if harness.SANITIZER else 100))
TUNNELS = int(os.environ.get("COSOCKD_TEST_TUNNELS", 100 if harness.SANITIZER else 300))

# Answers with its version and the name of its Lua state.
NAMED = """
local args = ...
local name = "{version} " .. tostring(args):match("0x%x+")
local function serve(s)
   while true do
      local data = s:read()
      if not data or not s:write(name) then break end
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
{extra}
"""


class NamedCase(harness.Case):
    def script(self, version, extra=""):
        self.write("named.lua", NAMED.format(version=version, extra=extra))

    def start(self, settings):
        self.port = harness.free_port()
        self.script("one")
        self.daemon = self.service(f'log_connections = false\n{settings}\n'
                                   f'service "named" {{ script = "named.lua", port = {self.port} }}', [self.port])

    def ask(self, connection):
        connection.sendall(b"?")
        return connection.recv(100).decode().split()

    def open(self, count):
        """So many connections, each with its [version, Lua state]."""
        opened = [self.connect(self.port) for _ in range(count)]
        return [(s, self.ask(s)) for s in opened]

    def states(self, opened):
        return [state for _, (_, state) in opened]

    def close(self, opened):
        for s, _ in opened:
            s.close()
        harness.until(lambda: self.status()["connections"] <= self.kept, 10, "the connections ended")

    kept = 0


@harness.both_descriptor_kinds
class CellsTest(NamedCase):
    # 32 slots of each cell are for accepted connections; ordinary descriptors keep some more for other uses.
    SETTINGS = "cells = 4\nsockets_max = 64"

    def test_cells_open_as_they_fill(self):
        self.start(self.SETTINGS)
        self.assertEqual(self.status()["cells"], 1)
        first = self.open(12)
        self.assertEqual(len(set(self.states(first))), 1, "one cell is enough")
        rest = self.open(50)
        self.assertGreater(len(set(self.states(rest))), 1)
        self.assertLessEqual(self.status()["cells"], 4)
        for s, answer in first + rest:
            self.assertEqual(self.ask(s), answer)
        status = self.status()
        self.assertEqual((status["connections"], status["counters"]["accept_lost"]), (62, 0))
        # Where the first ones were there is room again.
        self.close([])
        self.kept = 50 - self.states(rest).count(first[0][1][1])
        self.close(first + [c for c in rest if c[1][1] == first[0][1][1]])
        again = [self.open(1)[0] for _ in range(5)]
        self.assertEqual(set(self.states(again[1:])), {first[0][1][1]})

    def close(self, opened):
        if opened:
            super().close(opened)

    def test_full_cells_keep_clients_waiting(self):
        self.start("cells = 2\nsockets_max = 32")
        connections = [self.connect(self.port) for _ in range(60)]
        waiting = set(connections)
        answered = 0
        for s in connections:
            s.sendall(b"?")
        while waiting:  # each one that is served makes room for another
            ready, _, _ = select.select(list(waiting), [], [], 20 * harness.SLOW)
            self.assertTrue(ready, f"{len(waiting)} clients were never served")
            for s in ready:
                self.assertTrue(s.recv(100))
                waiting.remove(s)
                answered += 1
                s.close()
        self.assertEqual(answered, 60)
        self.assertEqual(self.status()["counters"]["accept_lost"], 0)

    def test_a_burst_larger_than_a_table_loses_nobody(self):
        self.start("cells = 4\nsockets_max = 1600")  # 800 of them for accept
        os.kill(self.daemon.process.pid, signal.SIGSTOP)
        connections = [self.connect(self.port) for _ in range(1000)]  # as far as the kernel's queue
        os.kill(self.daemon.process.pid, signal.SIGCONT)
        for s in connections:
            s.sendall(b"?")
        self.assertTrue(all(s.recv(100) for s in connections))
        self.assertEqual(self.status()["counters"]["accept_lost"], 0)

    def test_a_further_cell_that_fails_changes_nothing(self):
        self.port = harness.free_port()
        # Only one state can make the folder.
        self.script("one", 'if not ba.openio("disk"):mkdir("only") then error("not a second time") end')
        self.daemon = self.service(f'log_connections = false\n{self.SETTINGS}\n'
                                   f'service "named" {{ script = "named.lua", port = {self.port} }}', [self.port])
        opened = self.open(38 if self.environment else 26)
        self.daemon.wait_log(r"further cell not opened.*not a second time$")
        self.daemon.expect(r"further cell not opened")
        opened += self.open(1)
        self.assertEqual(len(set(self.states(opened))), 1)
        for s, answer in opened:
            self.assertEqual(self.ask(s), answer)


class ReloadCase(NamedCase):
    def reload_ok(self):
        run = self.reload()
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def reload_refused(self, pattern):
        run = self.reload()
        self.assertNotEqual(run.returncode, 0, run.stdout)
        self.assertRegex(run.stdout + run.stderr, pattern)
        self.daemon.wait_log(pattern)
        self.daemon.expect(pattern)

    def reloads_all_or_none(self, settings, copies):
        self.start(settings)
        old = self.open(60)
        self.assertGreaterEqual(len(set(self.states(old))), copies)
        # Fails in all copies but one, and so in all.
        self.script("two", 'if not ba.openio("disk"):mkdir("only") then error("not here") end')
        self.reload_refused(r"named\.lua:\d+: not here")
        self.script("two", "local x = = 1")
        self.reload_refused(r"named\.lua:\d+:")
        new = self.open(10)
        self.assertEqual({answer[0] for _, answer in new}, {"one"})
        generations = self.status()["generations"]
        self.assertEqual([g["state"] for g in generations], ["current"])
        self.script("three")
        self.reload_ok()
        for s, answer in old + new:
            self.assertEqual(self.ask(s), answer)
        for s, _ in old:
            s.close()
        newest = self.open(30)
        self.assertEqual({answer[0] for _, answer in newest}, {"three"})
        for s, answer in new + newest:
            self.assertEqual(self.ask(s), answer)
            s.close()
        harness.until(lambda: [g["state"] for g in self.status()["generations"]] == ["current"], 10,
                      "the old generation ended")


@harness.both_descriptor_kinds
class CellsReloadTest(ReloadCase):
    def test_cells(self):
        self.reloads_all_or_none("cells = 4\nsockets_max = 64", 2)


@harness.both_descriptor_kinds
class WorkersTest(ReloadCase):
    def test_reload(self):
        self.reloads_all_or_none("workers = 2", 2)

    def test_reload_of_both(self):
        self.reloads_all_or_none("workers = 2\ncells = 2\nsockets_max = 128", 2)

    def test_threads_have_names(self):
        self.start("workers = 3")
        names = []
        for task in os.listdir(f"/proc/{self.daemon.pid}/task"):
            with open(f"/proc/{self.daemon.pid}/task/{task}/comm", encoding="ascii") as f:
                names.append(f.read().strip())
        for name in ("cosockd-w0", "cosockd-w1", "cosockd-w2"):
            self.assertIn(name, names)

    def test_both_serve_and_are_told_apart(self):
        self.start("workers = 2")
        opened = self.open(64)
        self.assertEqual(len(set(self.states(opened))), 2)
        status = self.status()
        self.assertEqual(sum(w["connections"] for w in status["workers"]), 64)
        self.assertTrue(all(w["accepted"] > 0 for w in status["workers"]), status["workers"])
        self.assertRegex(self.control("status").stdout, r"(?m)^worker 1 +\d+ connections")

    def test_port_in_use_is_found(self):
        with harness.socket.socket() as stranger:
            stranger.setsockopt(harness.socket.SOL_SOCKET, harness.socket.SO_REUSEPORT, 1)
            stranger.bind(("127.0.0.1", harness.free_port()))
            stranger.listen()
            port = stranger.getsockname()[1]
            self.script("one")
            path = self.config(f'workers = 2\nservice "named" {{ script = "named.lua", port = {port} }}')
            run = subprocess.run([harness.COSOCKD, "-c", path], capture_output=True, text=True, check=False,
                                 timeout=20 * harness.PATIENCE)
            self.assertEqual(run.returncode, 1, run.stderr)
            self.assertRegex(run.stderr, r"named\.lua:\d+: bind")

    def test_unix_socket(self):
        path = f"{self.directory}/named.sock"
        self.script("one")
        self.write("unix.lua", NAMED.format(version="unix", extra="").replace(
            'args.port, {intf = "127.0.0.1"}', f'"unix:{path}"'))
        self.daemon = self.service('workers = 2\nservice "named" { script = "unix.lua" }')
        harness.until(lambda: harness.listening_at(path), 10, "the socket")
        for _ in range(20):
            with harness.socket.socket(harness.socket.AF_UNIX) as s:
                s.settimeout(20 * harness.SLOW)
                s.connect(path)
                self.assertEqual(self.ask(s)[0], "unix")
        self.daemon.stop()
        self.assertFalse(os.path.exists(path))


class DrainingTest(ReloadCase):
    def test_what_keeps_an_old_generation(self):
        self.start("workers = 2")
        old = self.open(6)
        self.script("two")
        self.reload_ok()
        with open(f"{self.directory}/named.lua", encoding="ascii") as f:
            line = 1 + [n for n, text in enumerate(f) if "s:read()" in text][0]
        draining = [g for g in self.status()["generations"] if g["state"] == "draining"][0]
        held = draining["held_by"]
        self.assertEqual(draining["generation"], 1)
        self.assertEqual([(h["count"], h["waits"]) for h in held], [(6, "read")])
        self.assertRegex(held[0]["place"], rf"named\.lua:{line}$")
        self.assertRegex(self.control("status").stdout,
                         rf"generation 1 +draining for [^\n]*\n +held by 6 x read at \S*named\.lua:{line}\n")
        for s, _ in old:
            s.close()

    def test_a_detached_relay_with_on_close(self):
        origin = self.server(harness.echo)
        self.port = harness.free_port()
        text = f"""
local l = assert(ba.socket.bind({self.port}, {{intf = "127.0.0.1"}}))
local function ended() end
l:event(function(l)
   for peer in l.accept, l do
      ba.socket.event(function(up, peer)
         if ba.socket.connect("127.0.0.1", {origin.port}) then
            ba.socket.relay(peer, up, {{detach = true, on_close = ended}})
         end
      end, peer)
   end
end, "r")
"""
        self.write("tunnel.lua", text)
        self.daemon = self.service('service "tunnel" { script = "tunnel.lua" }', [self.port])
        s = self.connect(self.port)
        s.sendall(b"x")
        self.assertEqual(s.recv(1), b"x")
        self.reload_ok()
        draining = [g for g in self.status()["generations"] if g["state"] == "draining"][0]
        self.assertEqual([(h["count"], h["waits"]) for h in draining["held_by"]], [(1, "relay")])
        self.assertRegex(draining["held_by"][0]["place"], r"tunnel\.lua:3$")
        s.close()

    def test_what_is_cut_is_logged_with_a_traceback(self):
        self.start('cells = 2\nreload_drain_timeout = "500ms"')
        old = self.open(1)
        self.script("two")
        self.reload_ok()
        self.assertTrue(harness.ended(old[0][0]))
        self.daemon.wait_log(r"coroutine cut service=named generation=1 waits=read: stack traceback:.*named\.lua:\d+")
        harness.until(lambda: [g["state"] for g in self.status()["generations"]] == ["current"], 10, "it ended")


def patient_echo(connection):
    connection.settimeout(None)  # a tunnel is idle as long as the reloads take
    harness.echo(connection)


class ReloadsUnderTrafficTest(harness.Case):
    """Requests over wrk, tunnels that are held in C and in Lua, and many reloads, every tenth of which is broken."""

    def hold(self, port, count):
        sockets = []
        for i in range(count):
            s = self.connect(port)
            s.sendall(f"tunnel {i}".encode())
            sockets.append(s)
        return sockets

    def check(self, sockets):
        for i, s in enumerate(sockets):
            want = f"tunnel {i}".encode()
            self.assertEqual(harness.read_exactly(s, len(want)), want)

    def configure(self, broken):
        services = "".join(
            f'service "{name}" {{ script = "{script}", listen = {{"127.0.0.1:{port}"}}, '
            f'upstreams = {{"127.0.0.1:{upstream}"}} }}\n'
            for name, script, port, upstream in self.services)
        if broken:
            services += 'service "broken" { script = "broken.lua" }\n'
        self.config(self.settings + services)

    def under_traffic(self, settings):
        nginx = harness.Nginx(self)
        nginx.file("page", harness.noise(2000))
        origin = self.server(patient_echo, backlog=4096)
        self.write("broken.lua", "error('broken on purpose')\n")
        self.write("lua.lua", """
local args = ...
local port, origin = tonumber(args.listen[1]:match "%d+$"), tonumber(args.upstreams[1]:match "%d+$")
local l = assert(ba.socket.bind(port, {intf = "127.0.0.1"}))
local function pump(from, to)
   while true do
      local data = from:read()
      if not data or not to:write(data) then break end
   end
   to:close()
end
l:event(function(l)
   for peer in l.accept, l do
      ba.socket.event(function(up)
         if not ba.socket.connect("127.0.0.1", origin, {timeout = 20000}) then return peer:close() end
         peer:event(function(peer) pump(peer, up) end, "s")
         pump(up, peer)
      end)
   end
end, "r")
""")
        ports = [harness.free_port() for _ in range(3)]
        self.services = [("web", "proxy.lua", ports[0], nginx.port), ("relay", "proxy.lua", ports[1], origin.port),
                         ("lua", "lua.lua", ports[2], origin.port)]
        self.settings = f"log_connections = false\n{settings}\n"
        self.configure(False)
        self.daemon = self.run_cosockd(["-c", f"{self.directory}/cosockd.lua"])
        self.daemon.wait_listening(ports)
        self.daemon.expect("broken on purpose|reload refused")
        held = self.hold(ports[1], TUNNELS // 2) + self.hold(ports[2], TUNNELS - TUNNELS // 2)
        half = TUNNELS // 2
        self.check(held[:half])
        self.check(held[half:])
        before = None
        done = threading.Event()
        failures = []
        served = []

        def load():
            while not done.is_set():
                for headers in ([], ["Connection: close"]):
                    requests, errors = harness.wrk(self, f"http://127.0.0.1:{ports[0]}/page", 2, 20, headers)
                    served.append(requests)
                    if errors:
                        failures.append(errors)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            for n in range(RELOADS):
                broken = n % 10 == 5
                self.configure(broken)
                run = self.reload()
                self.assertEqual(run.returncode != 0, broken, run.stdout + run.stderr)
                if n == RELOADS // 4:
                    before = self.daemon.rss()
            grown = self.daemon.rss() - before
        finally:
            done.set()
            thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(sum(served), 0)
        for i, s in enumerate(held):
            s.sendall(f"tunnel {i % half if i < half else i - half}".encode())
        self.check(held[:half])
        self.check(held[half:])
        status = self.status()
        self.assertEqual(status["counters"]["accept_lost"], 0)
        self.assertEqual(status["reloads"], RELOADS - len(range(5, RELOADS, 10)))
        if not harness.SANITIZER:
            self.assertLess(grown, 8 << 20, "memory grows with the number of reloads")
        for s in held:
            s.close()
        harness.until(lambda: [g["state"] for g in self.status()["generations"]] == ["current"], 20,
                      "the old generations ended")

    def test_one_worker(self):
        self.under_traffic("workers = 1")

    def test_two_workers_with_cells(self):
        self.under_traffic("workers = 2\ncells = 2")


if __name__ == "__main__":
    harness.main()
