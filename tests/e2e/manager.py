"""A stand-in for the service manager: passes sockets to the daemon, and holds those that it stores, as systemd does."""

import array
import os
import socket
import sys
import threading

import harness

# The descriptors go to 3 and following, and the process that they are meant for is this one.
LAUNCHER = """
import os, sys
fds = [os.dup2(int(fd), 500 + i, False) for i, fd in enumerate(sys.argv[1].split(","))]
for i, fd in enumerate(fds):
    os.dup2(fd, 3 + i)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """What a service manager knows about one service: the sockets of its socket units (`units`, a list of (name,
    socket)), its fd store, and the messages that came, as dicts."""

    def __init__(self, case):
        self.case = case
        self.units = []
        self.store = []  # (name, fd)
        self.messages = []
        self.changed = threading.Condition()
        self.path = os.path.join(case.directory, "notify.sock")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        case.addCleanup(self.close)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(64 * 4))
            except OSError:
                return
            if not data:
                return
            fds = array.array("i")
            for level, kind, payload in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(payload[:len(payload) // 4 * 4])
            message = dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line)
            with self.changed:
                self._store(message, fds)
                self.messages.append(message)
                self.changed.notify_all()

    def _store(self, message, fds):
        name = message.get("FDNAME", "stored")
        if message.get("FDSTORE") == "1":
            self.store += [(name, fd) for fd in fds]
        elif message.get("FDSTOREREMOVE") == "1":
            for stored, fd in self.store:
                if stored == name:
                    os.close(fd)
            self.store = [(stored, fd) for stored, fd in self.store if stored != name]

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for _, fd in self.store:
            os.close(fd)
        for _, s in self.units:
            s.close()

    def listen(self, name, port=None, **options):
        """A socket unit: ListenStream= on the loopback, FileDescriptorName=. Returns the port."""
        s = socket.create_server(("127.0.0.1", port or 0), backlog=1024, **options)
        self.units.append((name, s))
        return s.getsockname()[1]

    def stored_ports(self):
        with self.changed:
            ports = []
            for _, fd in self.store:
                with socket.socket(fileno=os.dup(fd)) as s:
                    ports.append(s.getsockname()[1])
            return sorted(ports)

    def wait(self, condition, what, seconds=15):
        """Until condition(self) holds."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self), seconds * harness.SLOW):
                raise AssertionError(f"{what}: not within {seconds * harness.SLOW} s; got {self.messages}")

    def wait_ready(self):
        """Until the daemon that was started last is."""
        self.wait(lambda m: any("READY" in message for message in m.messages), "READY=1")

    def start(self, config, env=None, ready=True, **options):
        """Starts the daemon with everything it is to be given, and waits until it is ready."""
        with self.changed:
            self.messages.clear()
            given = [(name, s.fileno()) for name, s in self.units] + self.store
        environment = {"NOTIFY_SOCKET": self.path, **(env or {})}
        if given:
            environment.update(LISTEN_FDS=str(len(given)), LISTEN_FDNAMES=":".join(name for name, _ in given))
            fds = [fd for _, fd in given]
            options.update(launcher=[sys.executable, "-c", LAUNCHER, ",".join(map(str, fds))], pass_fds=fds)
        daemon = self.case.run_cosockd(["-c", config], env=environment, **options)
        if ready:
            self.wait_ready()
        return daemon
