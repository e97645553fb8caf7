"""The programs of the bench with tiny numbers: they run, verify every byte and write their results.

What they measure is not looked at, and the kernel's settings stay as they are.
"""

import glob
import json
import os
import random
import resource
import socket
import subprocess
import sys

import harness

BENCH = os.path.join(harness.ROOT, "bench")
sys.path.insert(0, BENCH)
import steal  # noqa: E402

# A thousand connections need more than 0.2 s for the first of their requests on a busy machine.
QUICK = ["--only", "cosockd", "--runs", "1", "--seconds", str(0.2 * harness.PATIENCE)]


def free_ports(count):
    """The first of so many in a row that nobody uses, below those of harness.free_port()."""
    used = {local for local, _, _ in harness.tcp_table()}
    return random.choice([first for first in range(2000, 10000 - count, count) if used.isdisjoint(range(first, first + count))])


class Machine:
    """Its hypervisor steals what a test says, a run of one second at a time."""

    def __init__(self, *ticks):
        self.ticks = list(ticks)  # in each run: of CPUs 0 and 1
        self.now = 0
        self.total = {0: 5, 1: 7, 2: 0}
        self.pauses = []

    def run(self, **result):
        first, second = self.ticks.pop(0)
        self.total = {0: self.total[0] + first, 1: self.total[1] + second, 2: self.total[2] + 90}
        self.now += 1
        return {"ok": True, "left": len(self.ticks), **result}

    def steal(self, patience=100):
        return steal.Steal([0, 1], patience, lambda: self.total, lambda: self.now, self.pauses.append)


class StealTest(harness.Case):
    def test_quiet_runs_are_taken_at_once(self):
        machine = Machine((0, 0), (1, 1))
        runs = machine.steal()
        self.assertEqual([runs.run(machine.run)["stolen_ms"] for _ in range(2)], [0, 10])
        self.assertEqual((machine.pauses, runs.summary()), ([], {"runs": 2, "repeated": 0, "disturbed": 0, "seconds": 2,
                                                               "stolen_ms": 10}))

    def test_stolen_runs_are_repeated(self):
        machine = Machine((0, 30), (2, 0), (0, 0), (0, 0))
        runs = machine.steal()
        self.assertEqual(runs.run(machine.run), {"ok": True, "left": 1, "stolen_ms": 0})
        self.assertEqual((machine.pauses, runs.repeated, runs.disturbed), ([1, 2], 2, 0))
        self.assertIn("2 others", runs.text())

    def test_the_best_is_taken_of_what_never_gets_quiet(self):
        machine = Machine((9, 9), (9, 3), (2, 4), (40, 0), (5, 5), (0, 0))
        runs = machine.steal()
        self.assertEqual(runs.run(machine.run), {"ok": True, "left": 3, "stolen_ms": 40})
        self.assertEqual((machine.pauses, runs.repeated, runs.disturbed), ([1, 2, 4, 8], 4, 1))

    def test_patience_ends(self):
        machine = Machine((9, 9), (9, 3), (0, 0))
        runs = machine.steal(patience=3)
        self.assertEqual(runs.run(machine.run)["stolen_ms"], 90)
        self.assertEqual((machine.pauses, runs.disturbed), ([1], 1))

    def test_failures(self):
        """Nothing seen while much was stolen is no failure; a wrong byte is one, and is never looked away from."""
        machine = Machine((50, 0), (0, 0), (50, 0), (0, 0), (0, 0))
        runs = machine.steal()
        results = iter([{"ok": False, "empty": True}, {}, {"ok": False}, {"ok": False, "empty": True}])
        taken = [runs.run(lambda: machine.run(**next(results)))["ok"] for _ in range(3)]
        self.assertEqual((taken, runs.repeated), ([True, False, False], 1))

    def test_proc_stat(self):
        self.assertGreaterEqual(set(steal.stolen()), os.sched_getaffinity(0))
        runs = steal.Steal(os.sched_getaffinity(0), 0)
        self.assertGreaterEqual(runs.ms(), 0)


class BenchTest(harness.Case):
    def bench(self, name, *options, port=None, nofile=harness.NOFILE):
        """The process, at its end."""
        build = os.path.dirname(harness.COSOCKD)
        return subprocess.run([sys.executable, os.path.join(BENCH, name), "--keep-sysctls", "--patience", "5", "--results",
                               self.directory, "--port", str(port or free_ports(150)), *options], capture_output=True, text=True,
                              check=False, timeout=120 * harness.PATIENCE,
                              env=os.environ | {"COSOCK_BUILD": build, "TMPDIR": self.directory},
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile)))

    def run_bench(self, name, *options, **limits):
        """What it saved."""
        run = self.bench(name, *options, **limits)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        with open(glob.glob(f"{self.directory}/*-*.json")[0], encoding="utf-8") as f:
            return json.load(f)

    def refused(self, reason, name, *options, **limits):
        """It says why, measures nothing and leaves nothing behind."""
        run = self.bench(name, *options, **limits)
        self.assertEqual((run.returncode, os.listdir(self.directory)), (1, ["cosockd-bench.lock"]), run.stdout + run.stderr)
        self.assertIn(reason, run.stderr)
        self.assertNotIn("Traceback", run.stderr)

    def test_compare(self):
        found = self.run_bench("compare", *QUICK, "--gib", "0.02",
                               "--tunnels", "50", "--closing", "1", "--work", "rr", "--work", "bulk", "--work", "rate")
        self.assertEqual({s["peer"] for s in found["samples"]}, {"cosockd relay", "cosockd copying", "cosockd loop"})
        self.assertTrue(all(v is not None for s in found["samples"] for v in s["values"]))

    def test_latency(self):
        """Alone: the load of the round trips that it needs is measured, too."""
        found = self.run_bench("compare", "--only", "cosockd relay", "--runs", "1", "--seconds", str(0.3 * harness.PATIENCE),
                               "--work", "latency")
        self.assertEqual({s["work"] for s in found["samples"]}, {"rr-1000", "latency-p50", "latency-p99", "latency-p99.9"})
        self.assertTrue(all(v is not None for s in found["samples"] for v in s["values"]))

    def test_nothing_to_measure(self):
        self.refused("none of the peers is made for latency", "compare", "--udp", "--work", "latency")
        for name in ("compare", "tls"):
            self.refused("--only names none of cosockd", name, "--only", "nobody")
        self.need("wrk")
        self.refused("--only names none of cosockd", "wrk/run", "--only", "nobody")

    def test_port_is_taken(self):
        port = free_ports(150)
        with socket.create_server(("127.0.0.1", port + 1)):
            self.refused("the origin did not start", "c262k", "-c", "10", port=port)
        with socket.create_server(("127.0.0.1", port)):
            self.refused("the daemon did not start", "c262k", "-c", "10", port=port)

    def test_few_descriptors(self):
        self.refused("(RLIMIT_NOFILE)", "compare", "--work", "rr", nofile=1024)
        self.refused("RLIMIT_NOFILE of", "c262k", "-c", "60000", nofile=1024)

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
        """Where one process cannot have so many descriptors, load and daemon are several and cells."""
        found = self.run_bench("scale", "--sizes", "1000", "--workers", "2", "--rate", "500", "--seconds", str(0.2 * harness.PATIENCE),
                               nofile=1024)
        self.assertEqual([(r["workers"], r["tunnels"], r["ok"]) for r in found["results"]], [(2, 1000, True)])

    def test_wrk(self):
        self.need("wrk", "nginx")
        os.chmod(self.directory, 0o755)  # what nginx serves is in there
        found = self.run_bench("wrk/run", "--runs", "1", "--seconds", str(harness.PATIENCE // 2), "-c", "2", "--only", "cosockd relay",
                               "--script", "keepalive", "--script", "upload", "--script", "upgrade")
        self.assertEqual(found["failures"], [])

    def test_pages(self):
        self.need("wrk", "nginx")
        os.chmod(self.directory, 0o755)
        found = self.run_bench("pages", "--runs", "1", "--seconds", str(harness.PATIENCE // 2))
        self.assertEqual({(s["work"], s["peer"]) for s in found["samples"]}, {("file", "nginx"), ("file", "cosockd"), ("page", "cosockd")})
        self.assertTrue(all(v is not None for s in found["samples"] for v in s["values"]))

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
