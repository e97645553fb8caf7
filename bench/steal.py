"""CPU time that the hypervisor took away ("steal"), and runs that are repeated because of it.

The CPU time of a process has no stolen time in it. Latencies, throughput and the longest turn of a loop do, and where
much was stolen the caches are cold, too. Where nothing is stolen, nothing here changes a measurement.
"""

import os
import time

TICK = 1 / os.sysconf("SC_CLK_TCK")  # of /proc/stat
SHARE = 0.005  # of a run's time: p99 does not see what is well below 0.01
PAUSES = (1, 2, 4, 8)  # seconds before a run is repeated for the first time, the second, ...


def stolen():
    """Ticks by CPU, since the machine was started (proc_stat(5))."""
    with open("/proc/stat", encoding="ascii") as f:
        lines = [line.split() for line in f if line.startswith("cpu")]
    return {int(line[0][3:]): int(line[8]) for line in lines if line[0] != "cpu"}


class Steal:
    """Watches the CPUs of a measurement. patience: seconds that may go into repetitions altogether. The rest is for tests."""

    def __init__(self, cpus, patience, read=stolen, clock=time.monotonic, sleep=time.sleep):
        self.cpus = cpus
        self.patience = patience
        self.read, self.clock, self.sleep = read, clock, sleep
        self.last = read()
        self.runs = self.repeated = self.disturbed = 0  # disturbed: taken although more than SHARE was stolen
        self.seconds = self.ticks = 0  # of those taken

    def ms(self):
        """Milliseconds stolen from all of the CPUs since this was last asked."""
        before, self.last = self.last, self.read()
        return sum(self.last[cpu] - before[cpu] for cpu in self.cpus) * TICK * 1e3

    def run(self, measure):
        """A result of measure() in whose time little was stolen from each CPU, or else the best of some. measure() makes one
        run; its result is a dictionary in which "ok" says whether it is right and "empty", if it is there, that it only
        saw nothing. What is wrong otherwise is not repeated. Adds "stolen_ms" (of the worst CPU) to the result."""
        self.runs += 1
        tried = []
        for pause in (*PAUSES, None):
            begun, before = self.clock(), self.read()
            result = measure()
            after, seconds = self.read(), self.clock() - begun
            ticks = max(after[cpu] - before[cpu] for cpu in self.cpus)
            tried.append((result, ticks, seconds))
            quiet = ticks <= max(SHARE * seconds / TICK, 1)  # one tick may be almost nothing
            wrong = not result["ok"] and not result.get("empty")
            if quiet or wrong or pause is None or self.patience < pause + seconds:
                break
            self.patience -= pause + seconds
            self.repeated += 1
            self.sleep(pause)
        if not quiet and not wrong:
            self.disturbed += 1
            result, ticks, seconds = min(tried, key=lambda t: (not t[0]["ok"], t[1] / t[2]))
        self.seconds += seconds
        self.ticks += ticks
        result["stolen_ms"] = ticks * TICK * 1e3
        return result

    def summary(self):
        """For the JSON of a result."""
        return {"runs": self.runs, "repeated": self.repeated, "disturbed": self.disturbed, "seconds": round(self.seconds, 1),
                "stolen_ms": round(self.ticks * TICK * 1e3)}

    def text(self):
        """A sentence about all runs."""
        share = self.ticks * TICK / self.seconds if self.seconds else 0
        taken = f" ({self.disturbed} of them had to be taken although more than {SHARE * 100:g} % was)" if self.disturbed else ""
        return (f"{self.runs} runs were taken; {self.repeated} others were repeated because the hypervisor stole CPU time. "
                f"From those taken {share * 100:.2f} % was stolen{taken}.")
