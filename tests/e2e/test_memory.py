# ctest: serial
"""9,000 tunnels, each verified by an echo, held, verified again and closed: what they cost in memory."""

import json
import os
import subprocess
import sys
import time

import harness

TUNNELS = 9000
QUIET = 2  # seconds without a change: the daemon tidies up a second after the last activity
BENCH = os.path.join(harness.ROOT, "bench")


class TunnelsTest(harness.Case):
    def setUp(self):
        super().setUp()
        if harness.SANITIZER:
            self.skipTest("memory is not measured under a sanitizer")
        if harness.NOFILE < 2 * TUNNELS + 500:
            self.skipTest(f"RLIMIT_NOFILE {harness.NOFILE} is too low for {TUNNELS} tunnels")

    def load(self):
        path = os.environ.get("COSOCK_LOAD", os.path.join(os.path.dirname(harness.COSOCKD), "bench", "cosock-load"))
        if os.access(path, os.X_OK):
            return path
        path = os.path.join(self.directory, "cosock-load")
        sources = [os.path.join(BENCH, f"load{part}.c") for part in ("", "_client", "_sink", "_util")]
        subprocess.run([self.need("cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-o", path, *sources], check=True)
        return path

    def hold(self, script, limit):
        load = self.load()
        low = harness.free_port()
        while any(harness.listening(p) for p in range(low, low + 4)):
            low = harness.free_port()
        port = harness.free_port()
        while low <= port < low + 4:
            port = harness.free_port()
        sink = subprocess.Popen([load, "sink", "--to", f"127.0.0.1:{low}-{low + 3}", "--alarm", "170"],
                                stdout=subprocess.PIPE, text=True)
        self.addCleanup(sink.wait, 10)
        self.addCleanup(sink.stdout.close)
        self.addCleanup(sink.terminate)
        self.assertIn("ready", sink.stdout.readline())
        daemon = self.cosockd(os.path.join(BENCH, "scripts", script),
                              [port, "127.0.0.1", *range(low, low + 4)], [port])
        before = daemon.rss_settled(QUIET)
        holder = subprocess.Popen(
            [load, "hold", "--to", f"127.0.0.1:{port}", "--from", "127.0.1.1-127.0.1.8", "-c", str(TUNNELS),
             "--wait", "--seconds", "60", "--limit", "40", "--alarm", "150"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        opened = json.loads(holder.stdout.readline())
        after = daemon.rss_settled(QUIET)
        cpu = daemon.cpu_seconds()
        time.sleep(1)
        cpu = daemon.cpu_seconds() - cpu
        result = json.loads(holder.communicate("\n", timeout=100)[0].strip().split("\n")[-1])
        self.assertEqual(opened["verified"], TUNNELS, result)
        self.assertTrue(result["ok"], result)
        self.assertEqual((result["reverified"], result["lost"]), (TUNNELS, 0), result)
        grown = after - before
        back = grown // 10 + (1 << 20)
        ends = time.monotonic() + 60
        while daemon.rss() - before > back and time.monotonic() < ends:
            time.sleep(0.1)
        left = daemon.rss() - before
        print(f"{self.id()}: {grown / TUNNELS:.0f} bytes a tunnel, {left / TUNNELS:.0f} after closing, "
              f"{cpu * 1000:.0f} ms CPU in a second of idleness", file=sys.stderr)
        self.assertLessEqual(grown / TUNNELS, limit, "bytes of user memory per tunnel")
        self.assertLessEqual(left, back, "memory was not given back after closing")
        self.assertLess(cpu, 0.05, "an idle daemon uses CPU")


@harness.both_descriptor_kinds
class RelayTunnelsTest(TunnelsTest):
    def test_detached_relay(self):
        self.hold("relay.lua", 700)


@harness.both_descriptor_kinds
class LoopTunnelsTest(TunnelsTest):
    def test_listing_13(self):
        self.hold("loop.lua", 3500)


if __name__ == "__main__":
    harness.main()
