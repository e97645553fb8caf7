"""SIGTERM: what ends at once, what may finish, and what is cut."""

import re
import signal
import time

import harness


@harness.both_descriptor_kinds
class StopTest(harness.Case):
    def start(self, upstream, settings):
        self.daemon, self.port = self.proxy([upstream], settings=settings)

    def test_idle_daemon_ends_at_once(self):
        self.start(harness.free_port(), 'stop_timeout = "30s"')
        begun = time.monotonic()
        self.daemon.signal(signal.SIGTERM)
        self.assertEqual(self.daemon.wait_exit(10), 0)
        self.assertLess(time.monotonic() - begun, 3 * harness.SLOW)

    def test_connections_may_finish(self):
        origin = self.server(harness.echo)
        self.start(origin.port, 'stop_timeout = "30s"')
        tunnels = [self.connect(self.port) for _ in range(10)]
        for s in tunnels:
            s.sendall(b"before")
            self.assertEqual(harness.read_exactly(s, 6), b"before")
        self.daemon.signal(signal.SIGTERM)
        harness.until(lambda: not harness.listening(self.port), 10, "no new connections")
        for s in tunnels:
            data = harness.noise(200000)
            s.sendall(data)
            self.assertEqual(harness.digest(harness.read_exactly(s, len(data))), harness.digest(data))
        self.assertTrue(self.daemon.alive())
        begun = time.monotonic()
        for s in tunnels:
            s.close()
        self.assertEqual(self.daemon.wait_exit(20), 0)
        self.assertLess(time.monotonic() - begun, 5 * harness.SLOW, "waited though nothing was left")

    def test_stop_timeout_cuts_the_rest(self):
        origin = self.server(harness.echo)
        self.start(origin.port, 'stop_timeout = "1s"')
        s = self.connect(self.port)
        s.sendall(b"x")
        self.assertEqual(s.recv(1), b"x")
        begun = time.monotonic()
        self.daemon.signal(signal.SIGTERM)
        self.assertTrue(harness.ended(s))
        self.assertGreaterEqual(time.monotonic() - begun, 0.8)
        self.assertEqual(self.daemon.wait_exit(10), 0)

    def test_second_signal_ends_at_once(self):
        origin = self.server(harness.echo)
        self.start(origin.port, 'stop_timeout = "30s"')
        s = self.connect(self.port)
        s.sendall(b"x")
        self.assertEqual(s.recv(1), b"x")
        self.daemon.signal(signal.SIGTERM)
        harness.until(lambda: not harness.listening(self.port), 10, "no new connections")
        begun = time.monotonic()
        self.daemon.signal(signal.SIGTERM)
        self.assertEqual(self.daemon.wait_exit(10), 0)
        self.assertLess(time.monotonic() - begun, 4 * harness.SLOW)

    def test_a_stopped_script_hears_sysshutdown(self):
        port = harness.free_port()
        self.write("wait.lua", f"""
local listener = assert(ba.socket.bind({port}, {{intf = "127.0.0.1"}}))
listener:event(function(l)
   while true do
      local s = l:accept()
      if not s then break end
      s:event(function(s) trace("ended with", select(2, s:read())) end, "s")
   end
end, "r")
""")
        daemon = self.service('stop_timeout = "500ms"\nservice "wait" { script = "wait.lua" }', [port])
        daemon.leaves_connections = True
        s = self.connect(port)
        harness.until(lambda: harness.open_connections(port), 5, "accepted")
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait_exit(10), 0)
        self.assertTrue(re.search(r"ended with(\s|\\x09)+sysshutdown", daemon.log()), daemon.log())
        s.close()


if __name__ == "__main__":
    harness.main()
