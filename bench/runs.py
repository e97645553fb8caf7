"""Interleaved runs of several proxies in front of one origin: what compare, pages, tls and wrk share."""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import common
import peers
from common import say
from steal import Steal

GIB = 1 << 30


class Runs:
    def __init__(self, o, sysctls, origins, connections):
        """connections: of a proxy at a time, at most."""
        self.args = o
        self.sysctls = sysctls
        self.descriptors = min(common.descriptors(), 60000)
        if self.descriptors < 2 * connections + 500:
            sys.exit(f"bench: {connections} connections through a proxy take {2 * connections + 500} descriptors, "
                     f"it may have {self.descriptors} (RLIMIT_NOFILE)")
        self.directory = tempfile.mkdtemp(prefix="cosockd-bench-")
        self.cpus = common.cpus()
        self.origin = [o.port + i for i in range(origins)]
        self.sink = None
        self.started = []  # peers, and servers of other kinds behind them
        self.samples = {}  # (work, peer) -> one value per round, None where it failed
        self.stolen = {}  # (work, peer) -> milliseconds stolen from each of these, None where nobody looked
        self.steal = Steal(sorted(os.sched_getaffinity(0))[:2], o.patience)
        self.failures = []

    def fail(self, text):
        self.failures.append(text)
        say(f"FAILED: {text}")

    def start_origin(self, *options):
        self.sink = common.origin(self.origin, 2 * self.args.tunnels, self.cpus[1], *options)
        self.sink.__enter__()

    def start_peer(self, peer):
        """Starts it, or starts it anew; whether it runs."""
        peer.stop()
        if peer not in self.started:
            self.started.append(peer)
        try:
            peer.start()
        except (peers.Unavailable, RuntimeError) as e:
            self.fail(f"{peer.name}: {e}")
            return False
        return True

    def stop(self):
        for peer in self.started:
            peer.stop()
        if self.sink:
            self.sink.__exit__(None, None, None)
            self.sink = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def status(self):
        """Says once more what failed. The exit status."""
        for failure in self.failures:
            say(f"FAILED: {failure}")
        return 1 if self.failures else 0

    @staticmethod
    def order(things, i):
        """Another first in each round."""
        return things[i % len(things):] + things[:i % len(things)]

    def run_load(self, peer, mode, *options):
        """The result of a load against the peer, or None when it failed."""
        r = self.steal.run(lambda: common.load(mode, peer.port, "--limit", 30, *options, *peer.load_options,
                                               cpu=self.cpus[1], pids=peer.pids()[:1]))
        if not r["ok"]:
            self.fail(f"{peer.name}: {mode} {' '.join(map(str, options))}: {r}")
            return None
        return r

    def run_wrk(self, peer, script, path="/", connections=64):
        """The result of wrk with a script of bench/wrk against the peer, or None when it failed: requests, seconds,
        percentiles of a closed loop in microseconds, cpu_ns of the peer. wrk looks at status and lengths only."""
        folder = os.path.join(common.HERE, "wrk")
        command = ["wrk", "-t1", f"-c{connections}", f"-d{self.args.seconds}s", "--timeout", "20s", "--latency", "-s",
                   os.path.join(folder, f"{script}.lua"), f"http://127.0.0.1:{peer.port}{path}"]

        def once():
            cpu = sum(map(common.process_cpu, peer.pids()))
            run = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=common.child(self.cpus[1]),
                                 env=os.environ | {"WRK_RESULT": os.path.join(folder, "result.lua")})
            cpu = sum(map(common.process_cpu, peer.pids())) - cpu
            line = run.stdout.strip().split("\n")[-1]
            r = json.loads(line) if line.startswith("{") else {"requests": 0, "errors": 1, "note": run.stdout + run.stderr}
            return r | {"ok": r["requests"] > 0 and r["errors"] == 0, "cpu_ns": cpu * 1e9}

        r = self.steal.run(once)
        if not r["ok"]:
            self.fail(f"{peer.name}: {script} {path}: {r}")
            return None
        return r

    def keep(self, work, peer, value, r=None):
        """value: of this round, None if it failed. r: the result of the load that it is from, if it is from one."""
        self.samples.setdefault((work, peer.name), []).append(value)
        self.stolen.setdefault((work, peer.name), []).append(r and r["stolen_ms"])

    def keep_cpu(self, work, peer, r, of):
        """CPU seconds for each of `of` of a result, which may be None."""
        self.keep(work, peer, r and r["cpu_ns"] / 1e9 / of(r), r)

    def kept(self):
        """All samples, for the JSON."""
        return [{"work": w, "peer": p, "values": v, "stolen_ms": self.stolen[w, p]} for (w, p), v in self.samples.items()]

    def hold(self, peer, n):
        """Starts the peer anew: its memory before and with n idle tunnels, or None when it failed."""
        if not self.start_peer(peer):
            return None
        before = common.settled(peer.memory, most=10)
        with common.Holding(peer.port, n, *peer.load_options, cpu=self.cpus[1], limit=30) as held:
            after = common.settled(peer.memory, most=10)
            held.verify()
            result = held.close()
        if not result["ok"]:
            self.fail(f"{peer.name}: hold {n}: {result}")
            return None
        return before, after
