"""udp.lua: DNS through it to dnsmasq, a thousand clients at a time, its sessions, and reloads under traffic."""

import contextlib
import os
import random
import select
import signal
import socket
import struct
import subprocess
import threading
import time

import harness

A, TXT, OPT = 1, 16, 41
NAMES = 1500
LONG = "cosockd " * 400  # a TXT record that needs EDNS


def udp_socket(port=None, timeout=40):
    """Connected to a port of this machine, or bound to a free one."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(timeout * harness.SLOW)
    if port:
        s.connect(("127.0.0.1", port))
    else:
        s.bind(("127.0.0.1", harness.free_port()))
    return s


def bound(port):
    """True while somebody has the UDP port."""
    with open("/proc/net/udp", encoding="ascii") as f:
        return any(int(line.split()[1].rsplit(":", 1)[1], 16) == port for line in f.readlines()[1:])


# ---- a client as dig is one ----


def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def query(number, name, kind, size=4096):
    return (struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 1) + encode(name) + struct.pack(">HH", kind, 1)
            + b"\0" + struct.pack(">HHIH", OPT, size, 0, 0))


def skip_name(message, at):
    while message[at] and message[at] < 192:
        at += 1 + message[at]
    return at + (2 if message[at] else 1)


def answers(message, number, name, kind):
    """The records of an answer that is one to this query; raises otherwise."""
    got, flags, questions, count = struct.unpack(">HHHH", message[:8])
    if got != number or questions != 1 or not flags & 0x8000:
        raise AssertionError(f"not an answer to {number}: {message[:12].hex()}")
    end = skip_name(message, 12)
    if message[12:end].lower() != encode(name) or struct.unpack(">H", message[end:end + 2])[0] != kind:
        raise AssertionError(f"an answer about something else than {name}")
    records, at = [], end + 4
    for _ in range(count):
        at = skip_name(message, at)
        length = struct.unpack(">H", message[at + 8:at + 10])[0]
        records.append(message[at + 10:at + 10 + length])
        at += 10 + length
    return records, flags & 15


def address_of(i):
    return f"10.{i // 65536 % 256}.{i // 256 % 256}.{i % 256}"


# ---- tests ----


class Case(harness.Case):
    def proxy_udp(self, upstreams, extra="", settings=""):
        port = harness.free_port()
        self.configure(port, upstreams, extra, settings)
        self.daemon = self.run_cosockd(["-c", os.path.join(self.directory, "cosockd.lua")])
        harness.until(lambda: bound(port) or not self.daemon.alive(), 15, "the UDP port")
        return port

    def configure(self, port, upstreams, extra="", settings=""):
        listed = ", ".join(f'"127.0.0.1:{u}"' for u in upstreams)
        self.config(f'{settings}\nservice "udp" {{ script = "udp.lua", listen = "127.0.0.1:{port}", '
                    f'upstreams = {{{listed}}}, {extra} }}\n')

    def sockets(self):
        """Sockets of the scripts: one for each address and for each session."""
        return sum(g["sockets"] for g in self.status()["generations"])

    def echo_server(self, handle=lambda data: data):
        """Echoes datagrams, each as handle makes it (None: not); returns the port."""
        s = udp_socket(timeout=0.2)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        over = threading.Event()

        def serve():
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    data, peer = s.recvfrom(65536)
                    answer = handle(data)
                    if answer is not None:
                        s.sendto(answer, peer)

        thread = threading.Thread(target=serve)
        thread.start()

        def stop():
            over.set()
            thread.join()
            s.close()

        self.addCleanup(stop)
        return s.getsockname()[1]

    def client(self, port, timeout=40):
        s = udp_socket(port, timeout)
        self.addCleanup(s.close)
        return s

    def assert_answer(self, s, data):
        s.send(data)
        self.assertEqual(s.recv(65536), data)

    @staticmethod
    def await_answer(s, data, seconds):
        """Sends again whenever s has waited its time."""
        def answered():
            with contextlib.suppress(TimeoutError):
                s.send(data)
                return s.recv(65536) == data

        harness.until(answered, seconds, "an answer")

    def assert_no_answer(self, s, data):
        s.send(data)
        s.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            s.recv(65536)
        s.settimeout(10)


@harness.both_descriptor_kinds
class DnsTest(Case):
    def dnsmasq(self):
        binary = self.need("dnsmasq")
        port = harness.free_port()
        hosts = self.write("hosts", "".join(f"{address_of(i)} n{i}.example.test\n" for i in range(NAMES)))
        text = ",".join(LONG[i:i + 200] for i in range(0, len(LONG), 200))
        process = subprocess.Popen(
            [binary, "--keep-in-foreground", "--conf-file=/dev/null", f"--port={port}", "--listen-address=127.0.0.1",
             "--bind-interfaces", "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}", "--local=/test/",
             f"--txt-record=long.example.test,{text}", "--edns-packet-max=4096", f"--pid-file={self.directory}/pid",
             "--user=" + ("root" if os.geteuid() == 0 else ""), "--log-facility=-"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=harness.die_with_parent)

        def end():
            process.terminate()
            process.wait(10)

        self.addCleanup(end)
        harness.until(lambda: bound(port), 10, "dnsmasq's port")
        return port

    def ask(self, s, name, kind=A):
        number = random.randrange(65536)
        s.send(query(number, name, kind))
        return answers(s.recv(65536), number, name, kind)

    def test_dns(self):
        port = self.proxy_udp([self.dnsmasq()])
        s = self.client(port)
        for i in (0, 1, 17, NAMES - 1):
            self.assertEqual(self.ask(s, f"n{i}.example.test"), ([socket.inet_aton(address_of(i))], 0))
        self.assertEqual(self.ask(s, "unknown.example.test"), ([], 3))
        records, _ = self.ask(s, "long.example.test", TXT)  # longer than one packet of an Ethernet
        texts, at = b"", 0
        while at < len(records[0]):
            texts += records[0][at + 1:at + 1 + records[0][at]]
            at += 1 + records[0][at]
        self.assertEqual(texts.decode(), LONG)
        self.assertEqual(self.sockets(), 2)

    def test_a_thousand_clients(self):
        count = min(1000, harness.NOFILE - 100)
        port = self.proxy_udp([self.dnsmasq()], 'idle_timeout = "60s"')
        waiting = {}  # socket: (number of the query, name, address, when to ask again)
        poll = select.epoll()
        sockets = {}
        for i in range(count):
            s = self.client(port)
            name = f"n{i}.example.test"
            waiting[s.fileno()] = (i, name, socket.inet_aton(address_of(i)))
            sockets[s.fileno()] = s
            poll.register(s.fileno(), select.EPOLLIN)
        end = time.monotonic() + 60 * harness.SLOW
        rounds = 0
        while waiting and time.monotonic() < end:
            rounds += 1
            for fd, (number, name, _) in waiting.items():  # all at once; who has no answer asks again
                sockets[fd].send(query(number, name, A))
            again = time.monotonic() + 1
            while waiting and time.monotonic() < again:
                for fd, _ in poll.poll(max(0, again - time.monotonic())):
                    message = sockets[fd].recv(65536)
                    if fd in waiting:
                        number, name, address = waiting.pop(fd)
                        self.assertEqual(answers(message, number, name, A), ([address], 0))
        self.assertEqual(len(waiting), 0, f"clients without an answer after {rounds} rounds")
        self.assertEqual(self.sockets(), 1 + count)
        counters = self.status()["counters"]
        self.assertGreaterEqual(counters["datagrams_in"], 2 * count)
        self.assertGreaterEqual(counters["datagrams_out"], 2 * count)


@harness.both_descriptor_kinds
class SessionTest(Case):
    def test_datagrams_keep_their_bounds(self):
        port = self.proxy_udp([self.echo_server()])
        s = self.client(port)
        for size in (1, 0, 100, 0, 1472, 9000, 65507, 5):
            self.assert_answer(s, harness.noise(size, size))

    def test_sessions_end_when_idle(self):
        port = self.proxy_udp([self.echo_server()], 'idle_timeout = "400ms"')
        clients = [self.client(port) for _ in range(20)]
        for i, s in enumerate(clients):
            self.assert_answer(s, b"%d" % i)
        self.assertEqual(self.sockets(), 21)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:  # one goes on
            self.assert_answer(clients[0], b"still")
            time.sleep(0.05)
        harness.until(lambda: self.sockets() <= 2, 10, "the end of 19 sessions")
        harness.until(lambda: self.sockets() == 1, 10, "the end of the last")
        self.assert_answer(clients[7], b"a new session")

    def test_only_so_many_sessions(self):
        port = self.proxy_udp([self.echo_server()], 'sessions_max = 2, idle_timeout = "300ms"')
        first, second, third = (self.client(port) for _ in range(3))
        self.assert_answer(first, b"1")
        self.assert_answer(second, b"2")
        for _ in range(3):
            third.send(b"3")
            self.assert_answer(first, b"1")
        self.assertEqual(self.sockets(), 3)
        self.daemon.wait_log("2 sessions: no new ones")
        harness.until(lambda: self.sockets() == 1, 10, "the end of both")
        self.assert_answer(third, b"3")

    def test_memory_for_only_so_many_sessions(self):
        port = self.proxy_udp([self.echo_server()], 'idle_timeout = "3s"', 'lua_memory = "1M"\n')

        def is_full():
            for _ in range(200):
                with udp_socket(port, 1) as s:
                    s.send(b"x")
            return "sessions: no new ones (" in self.daemon.log()

        harness.until(is_full, 30, "no memory")
        self.await_answer(self.client(port, 0.2), b"still here", 30)

    def test_the_next_upstream_takes_over(self):
        dead = harness.free_port()
        port = self.proxy_udp([dead, self.echo_server()])
        self.await_answer(self.client(port, 0.2), b"anybody?", 10)
        self.daemon.wait_log(rf"upstream 127\.0\.0\.1:{dead}: ECONNREFUSED")
        for _ in range(10):  # no new client waits for the dead one
            self.assert_answer(self.client(port), b"hello")

    def test_workers_share_a_port(self):
        """Each worker has a socket there: the kernel sends all of a client's datagrams to the same one."""
        port = self.proxy_udp([self.echo_server()], settings="workers = 2")
        harness.until(lambda: self.sockets() == 2, 10, "both workers' sockets")
        clients = [self.client(port) for _ in range(40)]
        for n in range(3):
            for i, s in enumerate(clients):
                self.assert_answer(s, b"%d/%d" % (i, n))
        self.assertEqual(self.sockets(), 2 + len(clients))
        self.assertEqual(self.reload().returncode, 0)
        for s in clients:
            self.assert_answer(s, b"after the reload")

    def test_unanswered(self):
        port = self.proxy_udp([self.echo_server(lambda data: None)])
        self.assert_no_answer(self.client(port), b"hello")
        self.assertTrue(self.daemon.alive())

    def test_stop_is_quick(self):
        port = self.proxy_udp([self.echo_server()], settings='stop_timeout = "30s"')
        s = self.client(port)
        self.assert_answer(s, b"hello")
        begun = time.monotonic()
        self.daemon.signal(signal.SIGTERM)
        self.assertEqual(self.daemon.wait_exit(), 0)
        self.assertLess(time.monotonic() - begun, 5 * harness.SLOW)
        self.assertFalse(bound(port))


@harness.both_descriptor_kinds
class ReloadTest(Case):
    def test_nothing_is_lost(self):
        """Clients that ask the next question when they have the answer: one lost datagram ends them."""
        first, second = self.echo_server(lambda d: b"1" + d), self.echo_server(lambda d: b"2" + d)
        port = self.proxy_udp([first])
        over = threading.Event()
        problems, rounds = [], [0] * 4

        def play(i):
            s = udp_socket(port)
            try:
                while not over.is_set():
                    data = b"%d/%d" % (i, rounds[i])
                    s.send(data)
                    answer = s.recv(100)
                    if answer[1:] != data:
                        raise AssertionError(f"{answer} is no answer to {data}")
                    rounds[i] += 1
            except Exception as e:  # pylint: disable=broad-except
                problems.append(f"client {i}, round {rounds[i]}: {e!r}")
            finally:
                s.close()

        threads = [threading.Thread(target=play, args=(i,)) for i in range(len(rounds))]
        for t in threads:
            t.start()
        try:
            for n in range(10):
                harness.until(lambda: problems or min(rounds) > 20 * n, 20, "traffic")
                self.configure(port, [(first, second)[n % 2]])
                run = self.reload()
                self.assertEqual(run.returncode, 0, run.stderr)
            harness.until(lambda: problems or min(rounds) > 300, 20, "traffic")
        finally:
            over.set()
            for t in threads:
                t.join()
        self.assertEqual(problems, [])
        s = self.client(port)
        s.send(b"new")
        self.assertEqual(s.recv(100), b"2new")

    def test_what_changes_and_what_fails(self):
        port, other = self.proxy_udp([self.echo_server()]), harness.free_port()
        s = self.client(port)
        self.assert_answer(s, b"before")
        self.configure(port, [])  # no upstreams: refused
        self.daemon.expect("no upstreams")
        self.assertNotEqual(self.reload().returncode, 0)
        self.assert_answer(s, b"after a mistake")
        self.configure(other, [self.echo_server()], 'idle_timeout = "200ms"')
        self.assertEqual(self.reload().returncode, 0)
        self.assert_answer(self.client(other), b"the new address")
        self.assert_no_answer(self.client(port), b"nobody reads this")

    def test_check_binds_nothing(self):
        with udp_socket() as taken:
            port = taken.getsockname()[1]
            self.configure(port, [9])
            path = os.path.join(self.directory, "cosockd.lua")
            run = subprocess.run([harness.COSOCKD, "-t", "-c", path], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 0, run.stderr)
            d = self.run_cosockd(["-c", path])
            d.expect(f"cannot listen on 127.0.0.1:{port}")
            d.exit_status = 1
            self.assertEqual(d.wait_exit(), 1)

    def test_the_same_address_twice(self):
        text = 'service "{}" {{ script = "udp.lua", listen = "127.0.0.1:%d", upstreams = {{"127.0.0.1:9"}} }}\n'
        text %= harness.free_port()
        path = self.config(text.format("a") + text.format("b"))
        run = subprocess.run([harness.COSOCKD, "-t", "-c", path], capture_output=True, text=True, check=False)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("cannot listen on", run.stderr + run.stdout)


@harness.both_descriptor_kinds
class StopTest(Case):
    def test_a_draining_daemon_reads_no_more(self):
        """One TCP connection keeps it; what is bound to a UDP port is closed at once."""
        tcp, udp = harness.free_port(), harness.free_port()
        script = self.write("both.lua", f"""
ba.socket.bind({tcp}):event(function(l)
  for s in l.accept, l do s:event(function(c) for data in c.read, c do c:write(data) end end, "s") end
end)
assert(ba.socket.udpcon({udp})):event(function(s)
  while true do
    local data, ip, port = s:read(true)
    if not data then return trace("udp ended: " .. ip) end
    s:sendto(data, ip, port)
  end
end, "s")
""")
        d = self.service(f'service "both" {{ script = "{script}" }}\n', listens=(tcp,))
        with self.connect(tcp) as held:
            held.sendall(b"x")
            self.assertEqual(held.recv(1), b"x")
            d.signal(signal.SIGTERM)
            d.wait_log("udp ended: closed")
            held.sendall(b"y")
            self.assertEqual(held.recv(1), b"y")
        self.assertEqual(d.wait_exit(), 0)

    def test_a_cell_that_is_being_opened(self):
        """SIGTERM comes while the scripts load in a further cell: they do not get the UDP port then."""
        tcp, udp = harness.free_port(), harness.free_port()
        fifo = os.path.join(self.directory, "fifo")
        script = self.write("both.lua", f"""
ba.socket.bind({tcp}):event(function(l)
  for s in l.accept, l do s:event(function(c) for data in c.read, c do c:write(data) end end, "s") end
end)
assert(ba.socket.udpcon({udp})):event(function(s) while s:read() do end end, "s")
if io:stat("fifo") then
  trace("opening")
  _G.io.open("{fifo}"):read("a") -- holds up the worker
  for _ = 1, 10 do io:stat("fifo") end -- here the signal is handled
end
trace("loaded")
""")
        d = self.service(f'stop_timeout = "60s"\ncells = 2\nsockets_max = 64\nservice "both" {{ script = "{script}" }}\n', listens=(tcp,))
        os.mkfifo(fifo)
        with contextlib.ExitStack() as held:
            first = held.enter_context(self.connect(tcp))
            first.sendall(b"x")
            self.assertEqual(first.recv(1), b"x")

            def filled():
                held.enter_context(self.connect(tcp))
                return "opening" in d.log()

            harness.until(filled, 10, "a further cell")
            d.signal(signal.SIGTERM)
            d.wait_log("stopping by")
            with open(fifo, "w", encoding="ascii"):
                pass
            d.wait_log("loaded", count=2)
            harness.until(lambda: not bound(udp), 10, "the UDP port closed")
            first.sendall(b"still")
            self.assertEqual(harness.read_exactly(first, 5), b"still")
        self.assertEqual(d.wait_exit(), 0)


if __name__ == "__main__":
    harness.main()
