"""What the programs of the bench share: kernel settings, the daemon, the load generator, figures of processes."""

import contextlib
import ctypes
import fcntl
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("COSOCK_BUILD", os.path.join(os.path.dirname(HERE), "build"))
COSOCKD = os.path.join(BUILD, "cosockd")
COSOCKCTL = os.path.join(BUILD, "cosockctl")
LOAD = os.environ.get("COSOCK_LOAD", os.path.join(BUILD, "bench", "cosock-load"))
SOURCES = "127.0.1.1-127.0.1.32"  # addresses of the clients: each pair of addresses has ports of its own
PER_PROCESS = 15000  # connections of one process of the origin, where RLIMIT_NOFILE lets it have so many
BYTES_PER_TUNNEL = 24000  # of the whole machine, load included
RT_PRIORITY = 10
LIBC = ctypes.CDLL(None)


def say(text):
    print(f"bench: {text}", flush=True)


def arguments(parser):
    """The options that all of them have."""
    parser.add_argument("--port", type=int, default=9000, metavar="P",
                        help="ports used: from here on (default 9000; about 150)")
    parser.add_argument("--results", default=os.path.join(HERE, "results"), metavar="DIR", help="where results go")
    parser.add_argument("--keep-sysctls", action="store_true", help="leave the kernel's settings as they are")
    parser.add_argument("--rt", action="store_true",
                        help=f"run under SCHED_RR {RT_PRIORITY}, before what else runs here (as root)")
    parser.add_argument("--patience", type=float, default=900, metavar="S",
                        help="seconds that may go into repeating runs from which the hypervisor stole CPU time (default 900)")


def chosen(o, kinds):
    """Those of the kinds of peers that --only names."""
    found = [kind for kind in kinds if not o.only or kind.name.startswith(tuple(o.only))]
    if not found:
        sys.exit(f"bench: --only names none of {', '.join(kind.name for kind in kinds)}")
    return found


class Sysctls:
    """Sets what a measurement needs, says so, and puts everything back at the end."""

    def __init__(self):
        self.before = {}

    @staticmethod
    def path(name):
        return "/proc/sys/" + name.replace(".", "/")

    def get(self, name):
        try:
            with open(self.path(name), encoding="ascii") as f:
                return " ".join(f.read().split())
        except OSError:
            return None

    def set(self, name, value):
        old = self.get(name)
        if old is None or old == value:
            return
        say(f"sysctl {name}={value} (was {old or 'empty'}; put back at the end)")
        try:
            with open(self.path(name), "w", encoding="ascii") as f:
                f.write(value)
        except OSError as e:
            say(f"cannot set {name}={value}: {e.strerror}; measuring with {old or 'nothing'}")
            return
        self.before.setdefault(name, old)

    def at_least(self, name, value):
        old = self.get(name)
        if old is not None and int(old) < value:
            self.set(name, str(value))

    def prepare(self, low, high, rt=False):
        """For listening ports low to high. rt: processes of real-time priority may use the CPUs to the full."""
        # bbr paces with timers: on loopback that doubles the cost of bulk.
        if "cubic" in (self.get("net.ipv4.tcp_available_congestion_control") or ""):
            self.set("net.ipv4.tcp_congestion_control", "cubic")
        self.at_least("net.core.somaxconn", 65535)
        self.at_least("net.ipv4.tcp_max_syn_backlog", 65535)
        # An outgoing connection must not take a port that something here is going to listen on.
        reserved = self.get("net.ipv4.ip_local_reserved_ports")
        if reserved is not None:
            self.set("net.ipv4.ip_local_reserved_ports", ",".join(filter(None, [reserved, f"{low}-{high}"])))
        if rt:
            self.set("kernel.sched_rt_runtime_us", "-1")

    def many_ports(self):
        """Looking for a free port takes long when most of a range are in use."""
        self.set("net.ipv4.ip_local_port_range", "1024 65535")

    def restore(self):
        for name, value in self.before.items():
            try:
                with open(self.path(name), "w", encoding="ascii") as f:
                    f.write(value + "\n")
            except OSError as e:
                say(f"could not put back {name}={value}: {e.strerror}")
        if self.before:
            say("sysctls are back to what they were")
        self.before = {}


def real_time(task):
    """Puts a task (0: this process, and what it will start) before all others."""
    try:
        os.sched_setscheduler(task, os.SCHED_RR, os.sched_param(RT_PRIORITY))  # not FIFO: node waits for threads of its own
    except PermissionError:  # without sleeping, for ever
        sys.exit("bench: --rt is not permitted here: it wants root (CAP_SYS_NICE)")


@contextlib.contextmanager
def session(o, ports, many=False):
    """One measurement at a time on a machine: descriptors, priority and kernel settings for it. many: so many connections
    that only the daemon can have real-time priority."""
    path = os.path.join(tempfile.gettempdir(), "cosockd-bench.lock")
    with contextlib.suppress(FileExistsError), open(path, "x", encoding="ascii"):
        pass
    with open(path, encoding="ascii") as lock:  # not to write: nobody may another's file in /tmp (fs.protected_regular)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("bench: another bench is running on this machine")
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(s, lambda number, _: sys.exit(128 + number))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if o.rt and not many:
            real_time(0)
        sysctls = Sysctls()
        try:
            if not o.keep_sysctls:
                sysctls.prepare(o.port, o.port + ports - 1, o.rt)
                if many:
                    sysctls.many_ports()
            if os.getloadavg()[0] > 0.5:
                say(f"the machine is busy (load {os.getloadavg()[0]:.1f}): trust ratios, not figures")
            yield sysctls
        finally:
            sysctls.restore()


# ---- processes ----

def process_memory(pids, what="Rss"):
    """Resident bytes. what: "Pss" shares out what processes have in common."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            total += next((int(line.split()[1]) * 1024 for line in f if line.startswith(f"{what}:")), 0)
    return total


def process_cpu(pid):
    """Seconds of all threads, user and system."""
    ns = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
            ns += int(f.read().split()[0])
    return ns / 1e9


def settled(read, quiet=2, most=60):
    """The value of read() once it has stayed the same for `quiet` seconds: some tidy up a while after the last event."""
    seen, since, end = read(), time.monotonic(), time.monotonic() + most
    while time.monotonic() - since < quiet and time.monotonic() < end:
        time.sleep(0.1)
        now = read()
        if now != seen:
            seen, since = now, time.monotonic()
    return seen


def descriptors():
    """RLIMIT_NOFILE as session() raises it, for the proxies, too."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def check_room(tunnels):
    """Ends the program when so many do not fit."""
    least = tunnels // 27 + 200  # for two sockets each in 64 cells, an eighth of which stays free; the load needs less
    if descriptors() < least:
        sys.exit(f"bench: {tunnels} tunnels need an RLIMIT_NOFILE of {least}, it is {descriptors()}")
    with open("/proc/meminfo", encoding="ascii") as f:
        free = next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))
    if free < tunnels * BYTES_PER_TUNNEL:
        sys.exit(f"bench: {tunnels} tunnels need about {tunnels * BYTES_PER_TUNNEL >> 20} MiB, {free >> 20} are free")


def kernel_memory():
    """Bytes of the kernel's objects, by cache (as root), and in all under the name 'Slab'."""
    found = {}
    with open("/proc/meminfo", encoding="ascii") as f:
        found["Slab"] = next(int(line.split()[1]) * 1024 for line in f if line.startswith("Slab:"))
    with contextlib.suppress(OSError), open("/proc/slabinfo", encoding="ascii") as f:
        for line in f.readlines()[2:]:
            name, active, _, size = line.split()[:4]
            found[name] = int(active) * int(size)
    return found


def cpus():
    """The one of the proxy, and that of load and origin; none when there is but one."""
    found = sorted(os.sched_getaffinity(0))
    return found[:2] if len(found) > 1 else [None, None]


def child(cpu):
    """For subprocess's preexec_fn: the process runs on that CPU only (None: on any) and ends when we are killed."""
    def prepare():
        LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
    return prepare


@contextlib.contextmanager
def running(command, cpu=None, **options):
    process = subprocess.Popen(command, preexec_fn=child(cpu), **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# ---- the load ----

@contextlib.contextmanager
def origin(ports, connections, cpu=None, *options):
    """What is behind the proxy: on ports of 127.0.0.1, `connections` at most."""
    command = [LOAD, "sink", "--to", f"127.0.0.1:{ports[0]}-{ports[-1]}", "--alarm", "7200",
               "--procs", str(1 + connections // min(PER_PROCESS, max(descriptors() - 200, 100))), *options]
    with running(command, cpu, stdout=subprocess.PIPE, text=True) as process:
        if "ready" not in process.stdout.readline():
            sys.exit("bench: the origin did not start")
        yield process


def load_command(mode, port, *options, pids=()):
    command = [LOAD, mode, "--to", f"127.0.0.1:{port}", "--from", SOURCES]
    for pid in pids:
        command += ["--cpu-pid", str(pid)]
    return command + list(map(str, options))


def load(mode, port, *options, cpu=None, pids=()):
    """One run of the load generator: its result, in which "ok" says whether every byte was right. "empty": nothing was wrong,
    but no request was made and answered while it measured, so nothing is known."""
    run = subprocess.run(load_command(mode, port, *options, pids=pids), capture_output=True, text=True,
                         stdin=subprocess.DEVNULL, check=False, preexec_fn=child(cpu))
    lines = run.stdout.strip().split("\n")
    r = json.loads(lines[-1]) if lines[-1].startswith("{") else {"ok": False, "note": run.stderr or f"status {run.returncode}"}
    if mode != "bulk" and "count" in r and not r["bad"] + r["lost"] + r["failed"] and not (r["count"] and "latency_us" in r):
        r |= {"ok": False, "empty": True}
    return r


class Holding:
    """Connections that the load generator opens, verifies, holds, verifies again and closes. mode "slow": that it reads
    slowly, and then to their end."""

    def __init__(self, port, connections, *options, cpu=None, pids=(), limit=300, mode="hold"):
        self.context = running(
            load_command(mode, port, "-c", connections, "--wait", "--seconds", 3600, "--limit", limit, *options, pids=pids),
            cpu, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.process = stack.enter_context(self.context)
            self.opened = self.line()
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self.stack.__exit__(*error)

    def line(self):
        text = self.process.stdout.readline()
        return json.loads(text) if text else {"event": "dead", "ok": False, "seconds": 0}

    def until(self, *events):
        """Lets the load go on; its next line of these."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        result = self.line()
        while result["event"] not in (*events, "dead"):
            result = self.line()
        return result

    def verify(self):
        """Every connection again (slow: to its end)."""
        return self.until("reverified")

    def close(self):
        """The result, once all are closed."""
        return self.until("result")


# ---- the daemon ----

class Daemon:
    """cosockd with one service: a script of bench/scripts from 127.0.0.1:port to ports of the origin."""

    def __init__(self, folder, kind, port, ports, settings="", cpu=None, rt=False):
        self.port = port
        self.rt = rt
        self.control = f"{folder}/{port}.sock"
        path = os.path.join(folder, f"{port}.lua")
        with open(path, "w", encoding="ascii") as f:
            f.write(f'control_socket = "{self.control}"\nlog_connections = false\nlog_level = "warn"\n{settings}\n'
                    f'service "{kind}" {{ script = "{HERE}/scripts/{kind}.lua", {port}, "127.0.0.1", '
                    f'{", ".join(map(str, ports))} }}\n')
        self.context = running([COSOCKD, "-c", path], cpu)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.process = stack.enter_context(self.context)
            self.pid = self.process.pid
            end = time.monotonic() + 30
            while (self.ask() or {}).get("phase") != "running":
                if self.process.poll() is not None or time.monotonic() > end:
                    sys.exit("bench: the daemon did not start")
                time.sleep(0.1)
            for task in os.listdir(f"/proc/{self.pid}/task") if self.rt else []:
                real_time(int(task))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self.stack.__exit__(*error)

    def ask(self):
        """What cosockctl says, or None: with half a million connections to close it can take too long to answer."""
        run = subprocess.run([COSOCKCTL, "-s", self.control, "status", "--json"], capture_output=True, text=True,
                             check=False)
        return json.loads(run.stdout) if run.returncode == 0 else None

    def status(self):
        """Its turn_ns_max, the longest turn, begins anew with each call."""
        while self.process.poll() is None:
            status = self.ask()
            if status:
                return status
        sys.exit("bench: the daemon ended")

    def longest_turn(self):
        """Milliseconds, since this was last asked (or the status)."""
        return self.status()["counters"]["turn_ns_max"] / 1e6

    def memory(self):
        return process_memory([self.pid])


# ---- results ----

def environment(sysctls):
    model = "?"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    commit = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty", "--exclude=*"], capture_output=True, text=True,
                            check=False).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
        "command": " ".join([os.path.relpath(sys.argv[0], os.path.dirname(HERE)), *sys.argv[1:]]),
        "commit": commit or "?",
        "kernel": platform.release(),
        "cpu": f"{os.cpu_count()} x {model}",
        "descriptors": descriptors(),
        "congestion control": sysctls.get("net.ipv4.tcp_congestion_control"),
        "load average": os.getloadavg()[0],
    }


def save(o, name, **content):
    """Writes NAME-DATE.SUFFIX for each SUFFIX=content (json: any value, others: text)."""
    os.makedirs(o.results, exist_ok=True)
    base = os.path.join(o.results, f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix, value in content.items():
        with open(f"{base}.{suffix}", "w", encoding="utf-8") as f:
            f.write((json.dumps(value, indent=1) if suffix == "json" else value) + "\n")
    say(f"saved {os.path.relpath(base)}.{{{','.join(content)}}}")
