"""The programs of the bench with tiny numbers: they run, verify every byte and write their results.

What they measure is not looked at, and the kernel's settings stay as they are.
"""

import glob
import json
import os
import subprocess
import sys

import harness

BENCH = os.path.join(harness.ROOT, "bench")

# A thousand connections need more than 0.2 s for the first of their requests on a busy machine.
QUICK = ["--only", "cosockd", "--runs", "1", "--seconds", str(0.2 * harness.PATIENCE)]


def free_ports(count):
    """The first of so many in a row that nobody uses."""
    used = {local for local, _, _ in harness.tcp_table()}
    return next(first for first in range(17000, 60000, count) if used.isdisjoint(range(first, first + count)))


class BenchTest(harness.Case):
    def run_bench(self, name, *options):
        build = os.path.dirname(harness.COSOCKD)
        port = free_ports(150)
        run = subprocess.run([sys.executable, os.path.join(BENCH, name), "--keep-sysctls", "--results", self.directory,
                              "--port", str(port), *options], capture_output=True, text=True, check=False,
                             timeout=120 * harness.PATIENCE, env=os.environ | {"COSOCK_BUILD": build, "TMPDIR": self.directory})
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        with open(glob.glob(f"{self.directory}/*-*.json")[0], encoding="utf-8") as f:
            return json.load(f)

    def test_compare(self):
        found = self.run_bench("compare", *QUICK, "--gib", "0.02",
                               "--tunnels", "50", "--closing", "1", "--work", "rr", "--work", "bulk", "--work", "rate")
        self.assertEqual({s["peer"] for s in found["samples"]}, {"cosockd relay", "cosockd copying", "cosockd loop"})
        self.assertTrue(all(v is not None for s in found["samples"] for v in s["values"]))

    def test_websockets(self):
        found = self.run_bench("compare", "--websockets", *QUICK, "--gib", "0.02",
                               "--tunnels", "50", "--closing", "1", "--work", "bulk", "--work", "memory")
        self.assertEqual({s["peer"] for s in found["samples"]}, {"cosockd wsbridge", "cosockd loop"})

    def test_udp(self):
        found = self.run_bench("compare", "--udp", *QUICK, "--tunnels", "50", "--work", "rr")
        self.assertEqual({s["peer"] for s in found["samples"]}, {"cosockd udp"})
        self.assertTrue(all(v is not None for s in found["samples"] for v in s["values"]))

    def test_slow_readers(self):
        found = self.run_bench("compare", *QUICK, "--readers", "10", "--work", "slow")
        self.assertTrue(all(v is not None for s in found["samples"] for v in s["values"]))

    def test_scale(self):
        found = self.run_bench("scale", "--sizes", "100", "--workers", "2", "--rate", "500", "--seconds", str(0.2 * harness.PATIENCE))
        self.assertEqual([(r["workers"], r["tunnels"], r["ok"]) for r in found["results"]],
                         [(2, 100, True)])

    def test_wrk(self):
        self.need("wrk", "nginx")
        os.chmod(self.directory, 0o755)  # what nginx serves is in there
        found = self.run_bench("wrk/run", "--runs", "1", "--seconds", str(harness.PATIENCE // 2), "-c", "2", "--only", "cosockd relay",
                               "--script", "keepalive", "--script", "upload", "--script", "upgrade")
        self.assertEqual(found["failures"], [])

    def test_tls(self):
        found = self.run_bench("tls", *QUICK, "--gib", "0.01",
                               "--work", "hs-ecdsa", "--work", "hs-resumed", "--work", "down-16")
        self.assertEqual([len(s["values"]) for s in found["samples"]], [1, 1, 1])
        self.assertTrue(all(v is not None for s in found["samples"] for v in s["values"]))

    def test_c262k(self):
        found = self.run_bench("c262k", "--kind", "loop", "-c", "300", "--idle", "0.2", "--busy", "0.5")
        result = found["results"][0]
        self.assertEqual((result["verified"], result["reverified"], result["lost"]), (300, 300, 0))


if __name__ == "__main__":
    harness.main()
