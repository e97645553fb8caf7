"""The proxies that are compared: how each is configured, started, looked at and stopped."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import common
from common import HERE

NGINX_MODULES = "/usr/lib/nginx/modules"
SCRIPTS = os.path.join(os.path.dirname(HERE), "scripts")


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
    works = ("rr", "bulk", "rate", "memory", "latency", "slow")
    connections = 1 << 20  # at most
    busy = 1 << 20  # of these, at a time
    closes = True  # its memory after closing says something
    load_options = ()  # what the load generator needs to talk to it
    cpu = 0  # of the bench's two

    def __init__(self, bench, port, origin=None):
        self.bench = bench
        self.port = port
        self.origin = [origin] if origin else bench.origin  # ports
        self.process = None
        self.log = os.path.join(bench.directory, f"{self.name.replace(' ', '-')}-{port}.log")

    def command(self):
        raise NotImplementedError

    def version(self):
        raise NotImplementedError

    def write(self, name, text):
        path = os.path.join(self.bench.directory, name)
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        return path

    def ready(self):
        return accepts(self.port)

    def start(self):
        if self.ready():
            raise RuntimeError(f"port {self.port} is taken")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=common.child(self.bench.cpus[self.cpu]))
        with contextlib.suppress(TimeoutError):
            until(lambda: not self.alive() or self.ready(), 20, self.name)
            if self.alive():
                return
        wrong = "accepts no connections" if self.alive() else "ended at once"
        self.stop()
        with open(self.log, encoding="utf-8", errors="replace") as log:
            raise RuntimeError(f"{wrong}: {log.read()[-400:]}")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def pids(self):
        """The process and its children; none when it is stopped."""
        found, todo = [], [self.process.pid] if self.process else []
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
        return common.process_memory(self.pids())

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
    options = ()  # words behind the ports

    def command(self):
        if not os.access(common.COSOCKD, os.X_OK):
            raise Unavailable(f"{os.path.relpath(common.COSOCKD)} is not built")
        return [common.COSOCKD, os.path.join(HERE, "scripts", self.script), str(self.port), "127.0.0.1",
                *map(str, self.origin), *self.options]

    def version(self):
        run = subprocess.run([common.COSOCKD, "-v"], capture_output=True, text=True, check=False)
        return (run.stdout + run.stderr).strip().split("\n")[0]


class Relay(Cosockd):
    name = "cosockd relay"
    script = "relay.lua"


class Copying(Relay):
    """The relay as it moves what cannot be spliced, TLS for one."""

    name = "cosockd copying"
    works = ("bulk",)

    def command(self):
        return ["env", "COSOCKD_WITHOUT=splice", *super().command()]


class Loop(Cosockd):
    name = "cosockd loop"
    script = "loop.lua"


class Haproxy(Peer):
    name = "haproxy"
    globals = ""
    bind = ""  # words
    options = ""
    server = ""  # words

    def command(self):
        servers = "".join(f"    server s{p} 127.0.0.1:{p} {self.server}\n" for p in self.origin)
        connections = min(self.connections, self.bench.descriptors // 2 - 100)
        config = self.write(f"haproxy-{self.port}.cfg", f"""\
global
    maxconn {connections}
    nbthread 1
{self.globals}defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen bench
    bind 127.0.0.1:{self.port} backlog 65535 {self.bind}
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
    modules = ("ngx_stream_module.so",)
    listen = "backlog=65535"
    server = ""  # lines

    def configuration(self):
        servers = "".join(f"        server 127.0.0.1:{p};\n" for p in self.origin)
        return f"""\
stream {{
    upstream origin {{
{servers}    }}
    server {{
        listen 127.0.0.1:{self.port} {self.listen};
        proxy_connect_timeout 5s;
        proxy_timeout 1h;
        proxy_half_close on;
        proxy_pass origin;
{self.server}    }}
}}
"""

    def command(self):
        binary = program("nginx")
        modules = [os.path.join(NGINX_MODULES, m) for m in self.modules]
        for module in modules:
            if not os.path.exists(module):
                raise Unavailable(f"nginx has no {module}: ./dev bench installs it")
        name = f"{self.name.replace(' ', '-')}-{self.port}"
        log = os.path.join(self.bench.directory, f"{name}-error.log")
        config = self.write(f"{name}.conf", "".join(f"load_module {m};\n" for m in modules) + f"""\
daemon off;
worker_processes 1;
worker_rlimit_nofile {self.bench.descriptors};
pid {self.bench.directory}/{name}.pid;
error_log {log} warn;
events {{ worker_connections {self.bench.descriptors - 100}; }}
{self.configuration()}""")
        return [binary, "-c", config, "-e", log]

    def version(self):
        run = subprocess.run([program("nginx"), "-v"], capture_output=True, text=True, check=False)
        return run.stderr.strip().split(": ")[-1]


class NginxLua(Nginx):
    """The cosockets of Debian's nginx: its Lua module is for HTTP only, so a tunnel begins with a request head, after which
    a handler of two light threads has the connection."""

    name = "nginx lua"
    works = ("rr", "bulk", "rate", "memory", "slow")  # not latency: half of what it reaches is no load for the others
    modules = ("ndk_http_module.so", "ngx_http_lua_module.so")
    load_options = ("--preface", "GET / HTTP/1.1\r\nHost: bench\r\n\r\n")

    def configuration(self):
        ports = ", ".join(map(str, self.origin))
        return f"""\
http {{
    access_log off;
    lua_package_path "/usr/share/lua/5.1/?.lua;;";
    lua_socket_read_timeout 1h;
    lua_socket_log_errors off;
    init_by_lua_block {{ ports, turn = {{ {ports} }}, 0 }}
    server {{
        listen 127.0.0.1:{self.port} backlog=65535;
        location / {{ content_by_lua_block {{
            turn = turn % #ports + 1
            local down, up = assert(ngx.req.socket(true)), ngx.socket.tcp()
            assert(up:connect("127.0.0.1", ports[turn]))
            local function pump(from, to)
                while true do
                    local data = from:receiveany(65536)
                    if not data or not to:send(data) then break end
                end
            end
            local back = ngx.thread.spawn(pump, up, down)
            pump(down, up)
            ngx.thread.kill(back)
        }} }}
    }}
}}
"""


class Socat(Peer):
    """The floor: a process for each tunnel."""

    name = "socat"
    works = ("rr", "bulk", "rate")
    connections = 64

    def command(self):
        return [program("socat"), f"TCP-LISTEN:{self.port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=1024",
                f"TCP:127.0.0.1:{self.origin[0]},nodelay"]

    def version(self):
        run = subprocess.run([program("socat"), "-V"], capture_output=True, text=True, check=False)
        return " ".join(run.stdout.split("\n")[1].split()[:3])


TUNNELS = (Relay, Copying, Loop, Haproxy, HaproxySplice, Nginx, NginxLua, Socat)


# ---- datagrams

class Datagrams(Peer):
    works = ("rr", "memory")
    closes = False  # nobody tells the proxy that a client is gone
    busy = 64  # so many at once never fill a socket's buffer: none gets lost
    load_options = ("--udp", "--window", "64")

    def ready(self):
        with open("/proc/net/udp", encoding="ascii") as f:
            return any(int(line.split()[1].split(":")[1], 16) == self.port for line in f.readlines()[1:])


class CosockdUdp(Datagrams, Cosockd):
    name = "cosockd udp"
    script = os.path.join(SCRIPTS, "udp.lua")

    def command(self):
        return [common.COSOCKD, self.script, *(f"127.0.0.1:{p}" for p in (self.port, *self.origin))]


class NginxUdp(Datagrams, Nginx):
    listen = "udp"


DATAGRAMS = (CosockdUdp, NginxUdp)


# ---- bridges from WebSockets to TCP

class Bridge(Peer):
    works = ("rr", "bulk", "rate", "memory", "slow")
    load_options = ("--websocket",)

    def addresses(self):
        return [f"127.0.0.1:{self.port}", f"127.0.0.1:{self.origin[0]}"]


class CosockdBridge(Bridge):
    name = "cosockd wsbridge"
    script = os.path.join(SCRIPTS, "wsbridge.lua")

    def command(self):
        return [common.COSOCKD, self.script, *self.addresses()]

    version = Cosockd.version


class CosockdWsLoop(CosockdBridge):
    name = "cosockd loop"
    script = os.path.join(HERE, "scripts", "wsloop.lua")


class Websockify(Bridge):
    """A process for each connection."""

    name = "websockify"
    works = ("rr", "bulk", "memory")
    connections = 64

    def command(self):
        return [program("websockify"), *self.addresses()]

    def memory(self):
        return common.process_memory(self.pids(), "Pss")

    def version(self):
        run = subprocess.run(["dpkg-query", "-W", "websockify"], capture_output=True, text=True, check=False)
        return run.stdout.replace("\t", " ").strip() or "websockify"


class Node(Bridge):
    name = "node ws"

    def command(self):
        if not os.path.isdir("/usr/share/nodejs/ws"):
            raise Unavailable("node-ws is not installed")
        return ["env", "NODE_PATH=/usr/share/nodejs", program("node"), os.path.join(HERE, "scripts", "wsbridge.js"),
                str(self.port), str(self.origin[0])]

    def version(self):
        with open("/usr/share/nodejs/ws/package.json", encoding="utf-8") as f:
            return f"node {subprocess.run([program('node'), '-v'], capture_output=True, text=True, check=False).stdout.strip()}, ws {json.load(f)['version']}"


BRIDGES = (CosockdBridge, CosockdWsLoop, Websockify, Node)
