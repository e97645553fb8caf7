"""Sockets of a service manager: socket units, and listeners that outlive a restart in its fd store."""

import contextlib
import os
import re
import signal
import socket
import threading
import time

import harness
from manager import Manager

ECHO = 'service "{name}" {{ script = "echo.lua", listen = {listen} }}\n'


class ManagedCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.manager = Manager(self)

    def echo(self, listen, name="web"):
        return ECHO.format(name=name, listen=listen)

    def restart(self, daemon, config):
        """As systemctl does: SIGTERM, the end, a new process with what is in the store."""
        daemon.stop()
        return self.manager.start(config)

    def assert_nobody_refused(self, port, configs):
        """A stream of connects, each served or waiting, while the daemon is restarted with each configuration."""
        daemon = self.manager.start(configs[0])
        stop, problems, served = threading.Event(), [], [0]

        def client():
            while not stop.is_set():
                try:
                    with socket.create_connection(("127.0.0.1", port), 30 * harness.SLOW) as s:
                        s.sendall(b"x")
                        if harness.read_exactly(s, 1) == b"x":
                            served[0] += 1
                except (OSError, EOFError) as e:
                    problems.append(repr(e))

        threads = [threading.Thread(target=client) for _ in range(4)]
        for t in threads:
            t.start()
        for config in configs[1:]:
            before = served[0]
            harness.until(lambda b=before: served[0] > b + 50, 20, "clients are served")
            daemon = self.restart(daemon, config)
        before = served[0]
        harness.until(lambda: served[0] > before + 50, 20, "clients are served")
        stop.set()
        for t in threads:
            t.join()
        self.assertEqual(problems, [])

    def kill(self, daemon):
        daemon.signal(signal.SIGKILL)
        daemon.exit_status = -signal.SIGKILL
        daemon.wait_exit()


@harness.both_descriptor_kinds
class SocketUnitTest(ManagedCase):
    def inodes(self, pid):
        """Of the sockets a process has."""
        found = set()
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        return found

    def test_an_address_that_equals_is_used(self):
        port = self.manager.listen("web")
        early = self.connect(port)  # before anybody runs
        early.sendall(b"early")
        daemon = self.manager.start(self.config(self.echo(f'"127.0.0.1:{port}"')))
        self.assertEqual(harness.read_exactly(early, 5), b"early")
        self.assert_echo(port)
        self.assertIn(os.readlink(f"/proc/self/fd/{self.manager.units[0][1].fileno()}"), self.inodes(daemon.pid))
        self.assertEqual(self.manager.store, [])  # the manager has it already

    def test_a_socket_by_its_name(self):
        ports = [self.manager.listen(name) for name in ("web", "other", "web")]
        daemon = self.manager.start(self.config(self.echo('{"systemd:web", "systemd:web"}')))
        self.assert_echo(ports[0])
        self.assert_echo(ports[2])
        daemon.wait_log(rf"warn .*bound by no service name=other addr=127\.0\.0\.1:{ports[1]}")
        self.assertEqual(self.reload().returncode, 0)
        self.assert_echo(ports[0])
        self.assert_echo(ports[2])
        self.config(self.echo('{"systemd:web", "systemd:web", "systemd:web"}'))
        daemon.expect(r"cannot listen on systemd:web")
        run = self.reload()
        self.assertEqual(run.returncode, 1)
        self.assertIn("systemd:web", run.stderr)

    def test_names_are_no_mistake_for_the_check(self):
        d = self.run_cosockd(["-t", "-c", self.config(self.echo('"systemd:web"'))])
        self.assertEqual(d.wait_exit(), 0)

    def test_what_a_reload_drops_can_come_back(self):
        """The manager goes on holding the socket, so it must not be closed for good."""
        port, other = self.manager.listen("web"), harness.free_port()
        with_it, without = self.echo(f'"127.0.0.1:{port}"'), self.echo(f'"127.0.0.1:{other}"')
        self.manager.start(self.config(with_it))
        self.assert_echo(port)
        self.config(without)
        self.assertEqual(self.reload().returncode, 0)
        self.assert_echo(other)
        waiting = self.connect(port)  # in the manager's socket
        waiting.sendall(b"late")
        self.config(with_it)
        self.assertEqual(self.reload().returncode, 0)
        self.assertEqual(harness.read_exactly(waiting, 4), b"late")

    def test_a_socket_that_is_none(self):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
        self.manager.units.append(("dns", s))
        port = harness.free_port()
        daemon = self.manager.start(self.config(self.echo(f'"127.0.0.1:{port}"')))
        daemon.wait_log(r"warn .*not used name=dns: not a listening stream socket")
        self.assert_echo(port)

    def test_sockets_for_another_process(self):
        """LISTEN_PID is somebody else's."""
        port = harness.free_port()
        daemon = self.run_cosockd(["-c", self.config(self.echo(f'"127.0.0.1:{port}"'))],
                                  env={"LISTEN_PID": "1", "LISTEN_FDS": "1"})
        daemon.wait_listening([port])
        self.assert_echo(port)


@harness.both_descriptor_kinds
class FdStoreTest(ManagedCase):
    def test_listeners_go_to_the_store_and_leave_it(self):
        ports = sorted(harness.free_port() for _ in range(3))
        self.manager.start(self.config("".join(self.echo(f'"127.0.0.1:{p}"', f"s{p}") for p in ports)))
        self.assertEqual(self.manager.stored_ports(), ports)
        self.assertEqual(len({name for name, _ in self.manager.store}), 3)
        self.config(self.echo(f'"127.0.0.1:{ports[1]}"'))
        self.assertEqual(self.reload().returncode, 0)
        self.manager.wait(lambda m: len(m.store) == 1, "two sockets leave the store")
        self.assertEqual(self.manager.stored_ports(), [ports[1]])
        self.assert_echo(ports[1])
        with self.assertRaises(ConnectionRefusedError):
            self.connect(ports[0])

    def test_a_dropped_address_is_free_at_once(self):
        """However long the manager takes to let go of its copy."""
        port, other = harness.free_port(), harness.free_port()
        self.manager.start(self.config(self.echo(f'"127.0.0.1:{port}"')))
        name, fd = self.manager.store[0]
        copy = os.dup(fd)
        self.addCleanup(os.close, copy)
        self.config(self.echo(f'"127.0.0.1:{other}"'))
        self.assertEqual(self.reload().returncode, 0)
        harness.until(lambda: not harness.listening(port), 10, "the end of the listener")
        self.config(self.echo(f'"127.0.0.1:{port}"'))
        self.assertEqual(self.reload().returncode, 0)
        self.assert_echo(port)
        self.manager.wait(lambda m: m.store and m.store[0][0] != name, "the new socket in the store")

    def test_a_refused_reload_stores_nothing(self):
        port, other = harness.free_port(), harness.free_port()
        daemon = self.manager.start(self.config(self.echo(f'"127.0.0.1:{port}"')))
        self.config(self.echo(f'{{"127.0.0.1:{other}", "nonsense"}}'))
        daemon.expect("reload refused")
        self.assertEqual(self.reload().returncode, 1)
        self.assertEqual(self.manager.stored_ports(), [port])

    def test_who_waits_is_served_by_the_next_process(self):
        port = harness.free_port()
        config = self.config(self.echo(f'"127.0.0.1:{port}"'))
        daemon = self.manager.start(config)
        daemon.stop()
        waiting = [self.connect(port) for _ in range(20)]
        for i, s in enumerate(waiting):
            s.sendall(b"%02d" % i)
        name = self.manager.store[0][0]
        self.manager.start(config)
        for i, s in enumerate(waiting):
            self.assertEqual(harness.read_exactly(s, 2), b"%02d" % i)
        self.assertEqual([stored for stored, _ in self.manager.store], [name])  # and not a second time

    def test_a_crash_keeps_them_too(self):
        port = harness.free_port()
        config = self.config(self.echo(f'"127.0.0.1:{port}"'))
        self.kill(self.manager.start(config))
        waiting = self.connect(port)
        self.manager.start(config)
        waiting.sendall(b"hello")
        self.assertEqual(harness.read_exactly(waiting, 5), b"hello")

    def test_a_start_that_fails_keeps_them(self):
        port = harness.free_port()
        config = self.config(self.echo(f'"127.0.0.1:{port}"'))
        self.manager.start(config).stop()
        self.config(self.echo(f'{{"127.0.0.1:{port}", "nonsense"}}'))
        broken = self.manager.start(config, ready=False)
        broken.exit_status = 78
        broken.expect("not started")
        self.assertEqual(broken.wait_exit(), 78)
        waiting = self.connect(port)
        self.config(self.echo(f'"127.0.0.1:{port}"'))
        self.manager.start(config)
        waiting.sendall(b"hello")
        self.assertEqual(harness.read_exactly(waiting, 5), b"hello")

    def test_an_address_that_the_new_process_does_not_bind(self):
        port, other = harness.free_port(), harness.free_port()
        daemon = self.manager.start(self.config(self.echo(f'"127.0.0.1:{port}"')))
        daemon.stop()
        daemon = self.manager.start(self.config(self.echo(f'"127.0.0.1:{other}"')))
        daemon.wait_log(rf"nobody binds it any more: closed addr=127\.0\.0\.1:{port}")
        self.manager.wait(lambda m: len(m.store) == 1, "one socket leaves the store")
        self.assertEqual(self.manager.stored_ports(), [other])
        with self.assertRaises(ConnectionRefusedError):
            self.connect(port)

    def test_unix_sockets(self):
        path = f"{self.directory}/web.sock"
        config = self.config(self.echo(f'"unix:{path}"'))
        daemon = self.manager.start(config)
        daemon.stop()
        self.assertTrue(os.path.exists(path))
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20 * harness.SLOW)
            s.connect(path)
            s.sendall(b"hello")
            daemon = self.manager.start(config)
            self.assertEqual(harness.read_exactly(s, 5), b"hello")
        daemon.stop()
        os.unlink(path)  # as when /run/cosockd has been emptied
        self.manager.start(config)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.sendall(b"again")
            self.assertEqual(harness.read_exactly(s, 5), b"again")

    def test_restarts_refuse_nobody(self):
        port = harness.free_port()
        config = self.config(self.echo(f'"127.0.0.1:{port}"'))
        self.assert_nobody_refused(port, [config] * 4)


class WorkersTest(ManagedCase):
    def test_restarts_refuse_nobody(self):
        port = harness.free_port()
        config = self.config("workers = 2\n" + self.echo(f'"127.0.0.1:{port}"'))
        self.assert_nobody_refused(port, [config] * 4)
        self.assertEqual(self.manager.stored_ports(), [port, port])

    def test_more_workers_after_a_restart(self):
        port = harness.free_port()
        configs = [self.config(f"workers = {n}\n" + self.echo(f'"127.0.0.1:{port}"'), f"w{n}.lua") for n in (1, 3)]
        self.assert_nobody_refused(port, configs)
        self.assertEqual(self.manager.stored_ports(), [port] * 3)

    def test_workers_share_a_socket_unit(self):
        port = self.manager.listen("web")
        self.manager.start(self.config("workers = 2\n" + self.echo('"systemd:web"')))
        for _ in range(20):
            self.assert_echo(port)
        self.assertEqual(self.manager.store, [])


class NotifyTest(ManagedCase):
    def test_state_in_one_line(self):
        port = harness.free_port()
        self.manager.start(self.config(self.echo(f'"127.0.0.1:{port}"')))
        self.connect(port)
        self.assertEqual(self.reload().returncode, 0)
        self.manager.wait(lambda m: any(re.search(r"^running: generation 2, \d+ connections$", x.get("STATUS", ""))
                                        for x in m.messages), "the new generation in STATUS=")
        first = next(m["STATUS"] for m in self.manager.messages if "STATUS" in m)
        self.assertRegex(first, r"^running: generation 1, \d+ connections$")
        self.assertEqual(self.status()["phase"], "running")
        self.manager.wait(lambda m: any(re.search(r"generation 2, 1 connections", x.get("STATUS", ""))
                                        for x in m.messages), "the connection in STATUS=")

    def test_the_watchdog_is_fed(self):
        port = harness.free_port()
        daemon = self.manager.start(self.config(self.echo(f'"127.0.0.1:{port}"')), env={"WATCHDOG_USEC": "400000"})
        self.manager.wait(lambda m: sum("WATCHDOG" in x for x in m.messages) >= 3, "WATCHDOG=1 three times")
        self.assertTrue(daemon.alive())

    def test_the_watchdog_starves_when_the_worker_is_stuck(self):
        """A script in a C function that nothing interrupts."""
        port = harness.free_port()
        script = self.write("stuck.lua", f"""
            local l = assert(ba.socket.bind({port}))
            l:event(function(l)
              while l:accept() do string.find(("a"):rep(40), ("a?"):rep(40) .. ("a"):rep(40)) end
            end, "r")
            """)
        daemon = self.manager.start(self.config(f'service "stuck" {{ script = "{script}" }}'),
                                    env={"WATCHDOG_USEC": "400000"})
        self.manager.wait(lambda m: any("WATCHDOG" in x for x in m.messages), "WATCHDOG=1")
        self.connect(port)
        time.sleep(0.5)
        with self.manager.changed:
            before = sum("WATCHDOG" in x for x in self.manager.messages)
        time.sleep(1)
        with self.manager.changed:
            after = sum("WATCHDOG" in x for x in self.manager.messages)
        self.assertLessEqual(after - before, 1)
        self.kill(daemon)
        daemon.leaves_connections = True


if __name__ == "__main__":
    harness.main()
