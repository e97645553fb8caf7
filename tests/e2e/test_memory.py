# ctest: serial
"""9,000 tunnels, each verified by an echo, held, verified again and closed: what they cost in memory."""

import json
import os
import subprocess
import sys
import time

import harness
from tunnels import BENCH, QUIET, TUNNELS, TunnelsTest


class HoldTest(TunnelsTest):
    def hold(self, script, limit):
        load, daemon, port = self.start(script)
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
        if harness.SANITIZER:
            return
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
class RelayHoldTest(HoldTest):
    def test_detached_relay(self):
        self.hold("relay.lua", 700)


class RelayBuffersTest(harness.Case):
    def test_given_back_when_it_is_quiet(self):
        if harness.SANITIZER:
            self.skipTest("memory is not measured in an instrumented daemon")
        origin = self.server(harness.echo)
        port = harness.free_port()
        daemon = self.cosockd(os.path.join(BENCH, "scripts", "relay.lua"), [port, "127.0.0.1", origin.port], [port])
        s = self.connect(port)
        self.assertEqual(self.echoed(s, 1), 1)
        before = daemon.rss_settled(QUIET)
        self.assertEqual(self.echoed(s, 600), 600)  # each of the 256 small buffers, a page for two
        harness.until(lambda: daemon.rss() - before < 128 << 10, 30, "the receive buffers to be given back")

    def echoed(self, s, times):
        for i in range(times):
            s.sendall(b"x")
            if s.recv(1) != b"x":
                return i
        return times


@harness.both_descriptor_kinds
class LoopHoldTest(HoldTest):
    def test_listing_13(self):
        self.hold("loop.lua", 3584)


if __name__ == "__main__":
    harness.main()
