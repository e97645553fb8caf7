"""Thousands of tunnels through a script of the bench, made by the load generator.

Where the daemon is instrumented there are fewer, and its memory is not measured.
"""

import os
import subprocess

import harness

BENCH = os.path.join(harness.ROOT, "bench")
LOAD = os.environ.get("COSOCK_LOAD", os.path.join(os.path.dirname(harness.COSOCKD), "bench", "cosock-load"))
TUNNELS = 1500 if harness.SANITIZER else 9000
QUIET = 0 if harness.SANITIZER else 2  # seconds without a change: the daemon tidies up a second after the last activity


class TunnelsTest(harness.Case):
    def setUp(self):
        super().setUp()
        if harness.NOFILE < 2 * TUNNELS + 500:
            self.skipTest(f"RLIMIT_NOFILE {harness.NOFILE} is too low for {TUNNELS} tunnels")

    def start(self, script):
        """The origin and the daemon; returns the load generator, the daemon and its port."""
        load = self.need(LOAD)
        low = harness.free_port()
        while any(harness.listening(p) for p in range(low, low + 4)):
            low = harness.free_port()
        port = harness.free_port()
        while low <= port < low + 4:
            port = harness.free_port()
        sink = subprocess.Popen([load, "sink", "--to", f"127.0.0.1:{low}-{low + 3}", "--alarm", "170"],
                                stdout=subprocess.PIPE, text=True, preexec_fn=harness.die_with_parent)
        self.addCleanup(sink.wait, 10)
        self.addCleanup(sink.stdout.close)
        self.addCleanup(sink.terminate)
        self.assertIn("ready", sink.stdout.readline())
        daemon = self.cosockd(os.path.join(BENCH, "scripts", script),
                              [port, "127.0.0.1", *range(low, low + 4)], [port])
        return load, daemon, port
