# ctest: serial
"""9,000 tunnels, each verified by an echo, held, verified again and closed: what they cost in memory."""

import json
import subprocess
import sys
import time

import harness
from tunnels import QUIET, TUNNELS, TunnelsTest


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
        holder.stdin.write("\n")
        holder.stdin.flush()
        while json.loads(holder.stdout.readline())["event"] not in ("reverified", "result"):
            pass
        if not harness.SANITIZER:
            harness.until(lambda: daemon.rss() - after < 256 << 10, 30, "the buffers that the second echoes touched to be given back")
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


@harness.both_descriptor_kinds
class LoopHoldTest(HoldTest):
    def test_listing_13(self):
        self.hold("loop.lua", 3584)


if __name__ == "__main__":
    harness.main()
