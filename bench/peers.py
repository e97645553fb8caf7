"""The proxies that are compared: how each is configured, started, looked at and stopped."""

import os
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NGINX_STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"


class Unavailable(Exception):
    """This peer cannot be measured here; the text says why."""


def until(condition, seconds, what):
    """The first true result of condition(); TimeoutError after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)


def accepts(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


def program(name):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise Unavailable(f"{name} is not installed")
    return found


class Peer:
    """One proxy from 127.0.0.1:port to the ports of the origin, a process of its own."""

    name = "?"
    works = ("rr", "bulk", "rate", "memory")

    def __init__(self, bench, port):
        self.bench = bench
        self.port = port
        self.process = None
        self.log = os.path.join(bench.directory, f"{self.name.replace(' ', '-')}.log")

    def command(self):
        raise NotImplementedError

    def version(self):
        raise NotImplementedError

    def write(self, name, text):
        path = os.path.join(self.bench.directory, name)
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        return path

    def start(self):
        if accepts(self.port):
            raise RuntimeError(f"port {self.port} is taken")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.bench.pinned(0) + self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until(lambda: self.process.poll() is not None or accepts(self.port), 20, self.name)
        except TimeoutError:
            self.stop()
            raise RuntimeError(f"{self.name} does not accept connections; see {self.log}") from None
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                raise RuntimeError(f"{self.name} ended at once: {log.read()[-400:]}")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def pids(self):
        """The process and its children."""
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            try:
                with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
                    todo += [int(child) for child in f.read().split()]
            except OSError:
                pass
        return found

    def memory(self):
        """Resident bytes of all its processes."""
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                for line in f:
                    if line.startswith("Rss:"):
                        total += int(line.split()[1]) * 1024
        return total

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class Cosockd(Peer):
    script = "?"

    def binary(self):
        path = os.environ.get("COSOCKD", os.path.join(HERE, "..", "build", "cosockd"))
        if not os.access(path, os.X_OK):
            raise Unavailable(f"{os.path.relpath(path)} is not built")
        return path

    def command(self):
        return [self.binary(), os.path.join(HERE, "scripts", self.script), str(self.port), "127.0.0.1",
                *map(str, self.bench.origin)]

    def version(self):
        run = subprocess.run([self.binary(), "-v"], capture_output=True, text=True, check=False)
        return (run.stdout + run.stderr).strip().split("\n")[0]


class Relay(Cosockd):
    name = "cosockd relay"
    script = "relay.lua"


class Loop(Cosockd):
    name = "cosockd loop"
    script = "loop.lua"


class Haproxy(Peer):
    name = "haproxy"
    options = ""
    connections = 1 << 20

    def command(self):
        servers = "".join(f"    server s{p} 127.0.0.1:{p}\n" for p in self.bench.origin)
        connections = min(self.connections, self.bench.descriptors // 2 - 100)
        config = self.write(f"haproxy-{self.port}.cfg", f"""\
global
    maxconn {connections}
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen bench
    bind 127.0.0.1:{self.port} backlog 65535
    maxconn {connections}
    balance roundrobin
{self.options}{servers}""")
        return [program("haproxy"), "-db", "-f", config]

    def version(self):
        run = subprocess.run([program("haproxy"), "-v"], capture_output=True, text=True, check=False)
        return " ".join(run.stdout.split()[:3])


class HaproxySplice(Haproxy):
    name = "haproxy splice"
    options = "    option splice-request\n    option splice-response\n"
    connections = 2000  # pipes need descriptors too
    works = ("bulk",)


class Nginx(Peer):
    name = "nginx"

    def command(self):
        binary = program("nginx")
        if not os.path.exists(NGINX_STREAM):
            raise Unavailable(f"nginx has no stream module ({NGINX_STREAM}): install libnginx-mod-stream")
        servers = "".join(f"        server 127.0.0.1:{p};\n" for p in self.bench.origin)
        config = self.write("nginx.conf", f"""\
load_module {NGINX_STREAM};
daemon off;
worker_processes 1;
worker_rlimit_nofile {self.bench.descriptors};
pid {self.bench.directory}/nginx.pid;
error_log {self.bench.directory}/nginx-error.log warn;
events {{ worker_connections {self.bench.descriptors - 100}; }}
stream {{
    upstream origin {{
{servers}    }}
    server {{
        listen 127.0.0.1:{self.port} backlog=65535;
        proxy_connect_timeout 5s;
        proxy_timeout 1h;
        proxy_half_close on;
        proxy_pass origin;
    }}
}}
""")
        return [binary, "-c", config, "-e", os.path.join(self.bench.directory, "nginx-error.log")]

    def version(self):
        run = subprocess.run([program("nginx"), "-v"], capture_output=True, text=True, check=False)
        return run.stderr.strip().split(": ")[-1]


ALL = (Relay, Loop, Haproxy, HaproxySplice, Nginx)
