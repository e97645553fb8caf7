"""What every end-to-end test stands on: a daemon in a folder of its own, and conditions with deadlines.

    class SomeTest(harness.Case):
        def test_this(self):
            d = self.cosockd(script="...", listens=[port])
            with self.connect(port) as s: ...

At the end of a test every daemon it started gets SIGTERM and must end with status 0; its log must hold no
error line that was not expected, no report of a sanitizer, and no connection may be left open. Waiting is
always for a condition with a deadline.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
COSOCKD = os.environ.get("COSOCKD", os.path.join(ROOT, "build", "cosockd"))
COSOCKCTL = os.environ.get("COSOCKCTL", os.path.join(os.path.dirname(COSOCKD), "cosockctl"))
SANITIZER = os.environ.get("CS_BUILD_SANITIZE", "")
SCRIPTS = os.path.join(ROOT, "scripts")
NOFILE = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

# How much longer things may take where the daemon is instrumented.
SLOW = 4 if SANITIZER else 1

# How many times longer one waits for what should have happened, on a machine that is busy with other things.
PATIENCE = 4 * SLOW

SANITIZER_REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|SUMMARY: \w+Sanitizer")
ERROR_LINE = re.compile(r"^(\S+Z (error) |<[0-3]>)")


def until(condition, seconds=10, what="the condition"):
    """Polls condition() until it is true and returns its value; fails long after so many seconds."""
    limit = seconds * PATIENCE
    end = time.monotonic() + limit
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what() if callable(what) else what}: not within {limit:g} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


# ---- ports and sockets --------------------------------------------------------------------------------

_given = set()


def free_port():
    """A port nobody uses, outside the range that outgoing connections take theirs from."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        ceiling = int(f.read().split()[0])
    ceiling = min(max(ceiling, 12000), 32000)
    for _ in range(1000):
        port = random.randrange(10000, ceiling)
        if port in _given:
            continue
        try:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                with socket.socket(family) as s:
                    s.bind((host, port))
        except OSError as e:
            if e.errno != 97:  # EAFNOSUPPORT: no IPv6 here
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port")


def tcp_table():
    """(local port, remote port, state) of every TCP socket of this network namespace."""
    rows = []
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(name, encoding="ascii") as f:
                lines = f.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            rows.append((int(fields[1].rsplit(":", 1)[1], 16), int(fields[2].rsplit(":", 1)[1], 16),
                         int(fields[3], 16)))
    return rows


ESTABLISHED, CLOSE_WAIT, LISTEN = 1, 8, 10


def listening(port):
    return any(local == port and state == LISTEN for local, _, state in tcp_table())


def listening_at(path):
    """The same of a Unix socket, whose file is there before anybody listens."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as f:
        return any(line.split()[3] == "00010000" and line.rstrip("\n").endswith(" " + path) for line in f)


def open_connections(port):
    """Connections that were accepted on the port and are not over."""
    return sum(local == port and state in (ESTABLISHED, CLOSE_WAIT) for local, _, state in tcp_table())


def read_exactly(sock, count):
    parts = []
    while count > 0:
        data = sock.recv(min(count, 1 << 20))
        if not data:
            raise EOFError(f"{count} bytes before the end")
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def read_all(sock):
    parts = []
    while True:
        data = sock.recv(1 << 20)
        if not data:
            return b"".join(parts)
        parts.append(data)


def reset(sock):
    """Closes with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ended(sock):
    """True when the other side has closed or reset; waits at most as long as the socket's time-out."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


_noise = random.Random(4711).randbytes((1 << 20) + 7)


def noise(count, seed=0):
    """Bytes without any period a buffer could have: equal counts and seeds give equal bytes."""
    start = seed * 7919 % len(_noise)
    rotated = _noise[start:] + _noise[:start]
    return (rotated * (count // len(rotated) + 1))[:count]


def digest(data):
    return hashlib.sha256(data).hexdigest()


_libc = ctypes.CDLL(None)


def die_with_parent():
    """In a child before exec: a test that is killed leaves no process behind."""
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


# ---- peers --------------------------------------------------------------------------------------------


class Server:
    """A TCP server in threads: handler(socket) per connection. What a handler raises fails the test."""

    def __init__(self, handler, port=None, backlog=1024, host="127.0.0.1", path=None):
        self.port = None if path else port or free_port()
        self.handler = handler
        self.failures = []
        self.accepted = 0
        self.connections = set()
        self.lock = threading.Lock()
        if path:  # a Unix socket instead
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind(path)
            self.socket.listen(backlog)
        else:
            self.socket = socket.create_server((host, self.port), backlog=backlog)
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            connection.settimeout(60 * SLOW)
            with self.lock:
                self.accepted += 1
                self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection:
                self.handler(connection)
        except ConnectionError:
            pass  # tests reset connections
        except Exception as e:  # pylint: disable=broad-except
            if self.socket.fileno() >= 0:
                self.failures.append(repr(e))
        finally:
            with self.lock:
                self.connections.discard(connection)

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        with self.lock:
            left = list(self.connections)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def echo(connection):
    while True:
        data = connection.recv(1 << 16)
        if not data:
            return
        connection.sendall(data)


class Dns:
    """A name server: A records from a table, NXDOMAIN for the rest, silence for names in `silent`."""

    def __init__(self, names=None, silent=()):
        self.names = dict(names or {})
        self.silent = set(silent)
        self.asked = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            question = query[12:at + 5]
            kind = struct.unpack(">H", query[at + 1:at + 3])[0]
            name = ".".join(labels).lower()
            self.asked.append(name)
            if name in self.silent:
                continue
            addresses = self.names.get(name)
            answers = addresses if addresses and kind == 1 else []
            flags = 0x8180 if addresses is not None else 0x8183
            reply = query[:2] + struct.pack(">HHHHH", flags, 1, len(answers), 0, 0) + question
            for address in answers:
                reply += struct.pack(">HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address)
            with contextlib.suppress(OSError):
                self.socket.sendto(reply, peer)

    def close(self):
        self.socket.close()


# ---- the daemon ---------------------------------------------------------------------------------------


class Daemon:
    """One cosockd. Its standard output and error go to a file that the test can search."""

    def __init__(self, case, arguments, env=None, nofile=None, cwd=None, launcher=(), pass_fds=()):
        self.case = case
        self.ports = []
        self.leaves_connections = False
        self.expected = []
        self.log_path = os.path.join(case.directory, f"cosockd-{len(case.daemons)}.log")
        self.exit_status = 0
        self.ended = False

        def limit():
            die_with_parent()
            if nofile:
                resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))

        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*launcher, COSOCKD, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=cwd or case.directory, env={**os.environ, **case.environment, **(env or {})},
                pass_fds=pass_fds, preexec_fn=limit)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def alive(self):
        return self.process.poll() is None

    def wait_log(self, pattern, seconds=10, count=1):
        """Waits until the pattern is in the log so many times; returns the last match."""
        compiled = re.compile(pattern, re.M)

        def look():
            found = list(compiled.finditer(self.log()))
            if len(found) < count and not self.alive():
                raise AssertionError(f"cosockd ended ({self.process.returncode}) without saying /{pattern}/")
            return found[-1] if len(found) >= count else None

        return until(look, seconds, f"/{pattern}/ in the log")

    def expect(self, pattern):
        """Error lines like this are expected; there must be at least one at the end."""
        self.expected.append(re.compile(pattern))

    def wait_listening(self, ports, seconds=15):
        self.ports = list(ports)

        def look():
            if not self.alive():
                raise AssertionError(f"cosockd ended at once, status {self.process.returncode}:\n{self.log()}")
            return all(map(listening, ports))

        until(look, seconds, lambda: f"listening on {ports} (log: {self.log()})")

    def signal(self, number):
        self.process.send_signal(number)

    def rss(self):
        """Resident bytes."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as f:
            return int(re.search(r"^Rss:\s+(\d+) kB", f.read(), re.M).group(1)) * 1024

    def rss_settled(self, quiet=0.5, seconds=10):
        """Resident bytes once they stay the same for a while."""
        end = time.monotonic() + seconds
        last, since = self.rss(), time.monotonic()
        while time.monotonic() < end and time.monotonic() - since < quiet:
            time.sleep(0.05)
            now = self.rss()
            if now != last:
                last, since = now, time.monotonic()
        return last

    def cpu_seconds(self):
        total = 0
        for tid in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(OSError):
                with open(f"/proc/{self.pid}/task/{tid}/schedstat", encoding="ascii") as f:
                    total += int(f.read().split()[0])
        return total / 1e9

    def wait_exit(self, seconds=15):
        try:
            self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"cosockd did not end within {seconds * SLOW} s") from None
        return self.process.returncode

    def stop(self, seconds=15):
        """SIGTERM, and everything that must be true at the end."""
        if self.ended:
            return
        self.ended = True
        problems = []
        if self.alive() and not self.leaves_connections:
            try:
                until(lambda: not self.alive() or not any(map(open_connections, self.ports)), 10,
                      lambda: f"{sum(map(open_connections, self.ports))} connections still open")
            except AssertionError as e:
                problems.append(str(e))
        if self.alive():
            self.signal(signal.SIGTERM)
        try:
            status = self.wait_exit(seconds)
            if status != self.exit_status:
                problems.append(f"exit status {status}, not {self.exit_status}")
        except AssertionError as e:
            problems.append(str(e))
        problems += self.bad_lines()
        if problems:
            tail = "\n".join(self.log().split("\n")[-60:])
            raise AssertionError("; ".join(problems) + f"\n--- end of the log ---\n{tail}")

    def bad_lines(self):
        problems = []
        log = self.log()
        if SANITIZER_REPORT.search(log):
            problems.append("a sanitizer's report")
        missing = list(self.expected)
        for line in log.split("\n"):
            if ERROR_LINE.match(line):
                matching = [p for p in self.expected if p.search(line)]
                missing = [p for p in missing if p not in matching]
                if not matching:
                    problems.append(f"unexpected: {line}")
        return problems + [f"no error line like /{p.pattern}/" for p in missing]


class Case(unittest.TestCase):
    """A folder, an environment and the daemons and peers of one test."""

    environment = {}

    def setUp(self):
        if not os.access(COSOCKD, os.X_OK):
            self.skipTest(f"{COSOCKD} is not built")
        if not os.access(COSOCKCTL, os.X_OK):
            self.skipTest(f"{COSOCKCTL} is not built")
        self.directory = tempfile.mkdtemp(prefix="cosockd-e2e-")
        self.daemons = []
        self.servers = []
        self.addCleanup(self._remove)
        self.addCleanup(self._check_servers)
        self.addCleanup(self._stop_daemons)

    def _stop_daemons(self):
        problems = []
        for d in self.daemons:
            try:
                d.stop()
            except AssertionError as e:
                problems.append(str(e))
        if problems:
            self.fail("\n".join(problems))

    def _check_servers(self):
        failures = []
        for server in self.servers:
            server.close()
            failures += getattr(server, "failures", [])
        self.assertEqual(failures, [], "a peer of the test saw something wrong")

    def _remove(self):
        if os.environ.get("COSOCKD_E2E_KEEP"):
            print(f"{self.id()}: {self.directory}", file=sys.stderr)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    # ---- things a test starts

    def write(self, name, content):
        path = os.path.join(self.directory, name)
        with open(path, "wb" if isinstance(content, bytes) else "w") as f:
            f.write(content)
        return path

    def write_app(self, files):
        """The files of an application, {name: content}, in the folder "www"."""
        for name, content in files.items():
            os.makedirs(os.path.dirname(f"{self.directory}/www/{name}"), exist_ok=True)
            self.write(f"www/{name}", content)

    def run_cosockd(self, arguments, **options):
        d = Daemon(self, arguments, **options)
        self.daemons.append(d)
        return d

    def cosockd(self, script, arguments=(), listens=(), **options):
        """`cosockd script.lua arguments`; script is a path, or the text of one."""
        if "\n" in script:
            script = self.write(f"script{len(self.daemons)}.lua", script)
        d = self.run_cosockd([script, *map(str, arguments)], **options)
        d.wait_listening(listens)
        return d

    def config(self, text, name="cosockd.lua"):
        """A configuration with the settings that keep a test in its folder."""
        head = (f'control_socket = "{self.directory}/control.sock"\n'
                f'script_dir = "{SCRIPTS}"\nlibrary_dir = "{SCRIPTS}/lib"\ndata_dir = "{self.directory}"\n')
        if "stop_timeout" not in text:
            head += 'stop_timeout = "5s"\n'
        return self.write(name, head + text)

    def service(self, text, listens=(), **options):
        """A daemon with a configuration."""
        d = self.run_cosockd(["-c", self.config(text)], **options)
        d.wait_listening(listens)
        return d

    def proxy(self, upstreams, extra="", settings="", **options):
        """proxy.lua in front of these; returns the daemon and its port."""
        port = free_port()
        listed = ", ".join(f'"{u if isinstance(u, str) else f"127.0.0.1:{u}"}"' for u in upstreams)
        d = self.service(f'{settings}\nservice "web" {{ script = "proxy.lua", listen = {{"127.0.0.1:{port}"}}, '
                         f'upstreams = {{{listed}}}, {extra} }}\n', [port], **options)
        return d, port

    def server(self, handler, **options):
        s = Server(handler, **options)
        self.servers.append(s)
        return s

    def dns(self, names=None, silent=()):
        d = Dns(names, silent)
        self.servers.append(d)
        return d

    def connect(self, port, timeout=60, host="127.0.0.1"):
        s = socket.create_connection((host, port), timeout * SLOW)
        self.addCleanup(s.close)
        return s

    def control(self, *arguments):
        """cosockctl; returns the finished process."""
        return subprocess.run([COSOCKCTL, "-s", f"{self.directory}/control.sock", *arguments],
                              capture_output=True, text=True, timeout=60 * PATIENCE, check=False)

    def status(self):
        """What the daemon says about itself."""
        run = self.control("status", "--json")
        self.assertEqual(run.returncode, 0, run.stderr)
        return json.loads(run.stdout)

    def reload(self):
        """Reloads and waits for the result; returns cosockctl's process."""
        return self.control("reload", "--wait")

    def need(self, *programs):
        """Paths of programs; the test is skipped, with the name, when one is missing."""
        found = []
        for name in programs:
            path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
            if not path:
                self.skipTest(f"{name} is not installed")
            found.append(path)
        return found if len(found) > 1 else found[0]

    def assert_echo(self, port, data=b"hello", timeout=60):
        """One connection works."""
        with self.connect(port, timeout) as s:
            s.sendall(data)
            self.assertEqual(read_exactly(s, len(data)), data)

    def assert_client_may_end_first(self, tunnel):
        """A client that has sent all and ended its direction still gets the answer. tunnel: as below."""
        def answer_at_the_end(connection):
            data = read_all(connection)
            connection.sendall(digest(data).encode() * 2000)

        port = tunnel(self.server(answer_at_the_end).port)
        for size in (0, 1, 100000, 3 << 20):
            data = noise(size, size)
            with self.connect(port) as s:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                self.assertEqual(read_all(s), digest(data).encode() * 2000)

    def assert_origin_may_end_first(self, tunnel):
        """An origin that says its greeting and ends its direction still gets all that the client sends. tunnel(port of the
        origin) returns the port that leads there."""
        greeting = noise(200000)
        seen = []

        def greet_then_listen(connection):
            connection.sendall(greeting)
            connection.shutdown(socket.SHUT_WR)
            seen.append(digest(read_all(connection)))

        port = tunnel(self.server(greet_then_listen).port)
        for size in (0, 1, 100000, 3 << 20):
            data = noise(size, size)
            with self.connect(port) as s:
                self.assertEqual(digest(read_all(s)), digest(greeting))
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                until(lambda: seen, 20, "the origin's end")
            self.assertEqual(seen.pop(), digest(data))


class Nginx:
    """An origin: serves the files of the folder `root` and stores what is PUT there; or does what `server` says, the directives
    of a server block. listen: instead of a free port; options: behind it."""

    def __init__(self, case, listen=None, options="backlog=4096", server=None):
        binary = case.need("nginx")
        self.port = None if listen else free_port()
        folder = tempfile.mkdtemp(prefix="nginx-", dir=case.directory)
        os.chmod(folder, 0o755)
        self.root = os.path.join(folder, "www")
        os.makedirs(self.root)
        server = server or f"root {self.root}; location / {{ dav_methods PUT; create_full_put_path on; }}"
        path = case.write(f"{folder}/nginx.conf", f"""\
daemon off;
master_process off;
{"user root;" if os.geteuid() == 0 else ""}
worker_rlimit_nofile {min(NOFILE, 4096)};
pid {folder}/pid;
error_log {folder}/log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    {" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))}
    client_max_body_size 0;
    keepalive_requests 1000000;
    sendfile on;
    server {{
        listen {listen or f"127.0.0.1:{self.port}"} {options};
        {server}
    }}
}}
""")
        self.process = subprocess.Popen([binary, "-c", path, "-e", f"{folder}/log"], stdin=subprocess.DEVNULL,
                                        preexec_fn=die_with_parent)
        case.addCleanup(self.close)
        if self.port:
            until(lambda: listening(self.port), 10, "nginx listening")
        else:
            until(lambda: listening_at(listen.removeprefix("unix:")), 10, "nginx listening")

    def file(self, name, content):
        with open(os.path.join(self.root, name), "wb") as f:
            f.write(content)

    def close(self):
        self.process.terminate()
        self.process.wait(10)


def wrk(case, url, seconds, connections=50, headers=()):
    """Runs wrk; returns (requests, errors) where errors is a text, empty when all went well."""
    command = [case.need("wrk"), "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "20s"]
    for h in headers:
        command += ["-H", h]
    run = subprocess.run(command + [url], capture_output=True, text=True, check=False, timeout=seconds + 60)
    requests = re.search(r"(\d+) requests in", run.stdout)
    errors = re.findall(r"^\s*(?:Socket errors|Non-2xx).*$", run.stdout, re.M)
    if run.returncode != 0 or not requests:
        errors.append(f"wrk: status {run.returncode}: {run.stdout} {run.stderr}")
    return int(requests.group(1)) if requests else 0, "; ".join(e.strip() for e in errors)


def both_descriptor_kinds(cls):
    """The test class once more with ordinary descriptors, as on kernels before 6.13."""
    name = cls.__name__ + "WithoutDirect"
    module = sys.modules[cls.__module__]
    setattr(module, name, type(name, (cls,), {"environment": {"COSOCKD_WITHOUT": "direct"},
                                             "__module__": cls.__module__}))
    return cls


def main():
    """unittest.main, but a file whose tests were all skipped says so with status 77."""
    program = unittest.main(verbosity=2, exit=False)
    result = program.result
    if not result.wasSuccessful():
        sys.exit(1)
    if result.testsRun > 0 and len(result.skipped) == result.testsRun:
        sys.exit(77)
    sys.exit(0)
