"""Interleaved runs of several proxies in front of one origin: what compare and tls share."""

import os
import shutil
import tempfile

import common
import peers
from common import say
from steal import Steal

GIB = 1 << 30


class Runs:
    def __init__(self, o, sysctls, origins):
        self.args = o
        self.sysctls = sysctls
        self.directory = tempfile.mkdtemp(prefix="cosockd-bench-")
        self.descriptors = min(common.environment(sysctls)["descriptors"], 60000)
        self.cpus = sorted(os.sched_getaffinity(0))
        self.origin = [o.port + i for i in range(origins)]
        self.sink = None
        self.started = []  # all processes but the origin
        self.samples = {}  # (work, peer) -> one value per round, None where it failed
        self.stolen = {}  # (work, peer) -> milliseconds stolen from each of these, None where nobody looked
        self.steal = Steal(self.cpus[:2], o.patience)
        self.failures = []

    def cpu(self, which):
        return self.cpus[which] if len(self.cpus) > 1 else None

    def pinned(self, which):
        return ["taskset", "-c", str(self.cpus[which])] if len(self.cpus) > 1 else []

    def wanted(self, name):
        return not self.args.only or any(name.startswith(o) for o in self.args.only)

    def fail(self, text):
        self.failures.append(text)
        say(f"FAILED: {text}")

    def start_origin(self, *options):
        self.sink = common.origin(self.origin, 2 * self.args.tunnels, self.cpu(1), *options)
        self.sink.__enter__()

    def start_peer(self, peer):
        """Whether it can be measured."""
        try:
            peer.command()
            peer.start()
        except peers.Unavailable as e:
            say(f"NOT measured: {peer.name}: {e}")
            self.failures.append(f"{peer.name}: {e}")
            return False
        except RuntimeError as e:
            self.fail(str(e))
            return False
        self.started.append(peer)
        return True

    def stop(self):
        for peer in self.started:
            peer.stop()
        if self.sink:
            self.sink.__exit__(None, None, None)
            self.sink = None
        shutil.rmtree(self.directory, ignore_errors=True)

    @staticmethod
    def order(things, i):
        """Another first in each round."""
        return things[i % len(things):] + things[:i % len(things)]

    def run_load(self, peer, mode, *options):
        """The result of a load against the peer, or None when it failed."""
        r = self.steal.run(lambda: common.load(mode, peer.port, "--limit", 30, "--alarm", 120, *options, *peer.load_options,
                                               cpu=self.cpu(1), pids=[peer.process.pid]))
        if not r["ok"]:
            self.fail(f"{peer.name}: {mode} {' '.join(map(str, options))}: {r}")
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
        peer.stop()
        peer.start()
        before = common.settled(peer.memory, most=10)
        with common.Holding(peer.port, n, *peer.load_options, cpu=self.cpu(1), limit=30) as held:
            after = common.settled(peer.memory, most=10)
            held.verify()
            result = held.close()
        if not result["ok"]:
            self.fail(f"{peer.name}: hold {n}: {result}")
            return None
        return before, after
