"""The far ends of the model-based test: connections that read, send, end and reset when they are told to.

The commands are those of tests/model/far.lua. A thread for each control connection; who is connected to is known
by its name to all of them, and `forget` closes those that this control connection has spoken of."""

import socket
import struct
import threading

WINDOW = 65536  # receive buffer: who is not read from is full soon


class Far:
    def __init__(self, on_stop=None):
        self.on_stop = on_stop
        self.control = self._listen()
        self.live = self._listen()
        self.hole = socket.socket()
        self.hole.bind(("127.0.0.1", 0))
        self.hole.listen(0)
        self.plugs = []
        for _ in range(2):  # the queue of a listener that never accepts is full from now on
            plug = socket.socket()
            plug.setblocking(False)
            plug.connect_ex(self.hole.getsockname())
            self.plugs.append(plug)
        self.dead = socket.socket()  # bound, and nobody listens
        self.dead.bind(("127.0.0.1", 0))
        self.lock = threading.Lock()
        self.accepted = {}
        threading.Thread(target=self._accept, daemon=True).start()

    @staticmethod
    def _listen():
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        s.bind(("127.0.0.1", 0))
        s.listen(100)
        return s

    def arguments(self):
        return [f"{name}={getattr(self, name).getsockname()[1]}" for name in ("control", "live", "hole", "dead")]

    def close(self):
        for s in [self.control, self.live, self.hole, self.dead, *self.plugs, *self.accepted.values()]:
            s.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.control.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=Control(self, connection).serve, daemon=True).start()

    def take(self, name):
        """The connection that came from that port of the engine's."""
        with self.lock:
            while name not in self.accepted:
                s, address = self.live.accept()
                self.accepted[f"e{address[1]}"] = s
            return self.accepted.pop(name)


class Control:
    def __init__(self, far, connection):
        self.far, self.connection, self.peers = far, connection, {}

    def serve(self):
        with self.connection, self.connection.makefile("r") as lines:
            for line in lines:
                words = line.split()
                if words[0] == "stop":
                    self.far.on_stop()
                    continue
                answer = getattr(self, "_" + words[0])(*words[1:]) or "ok"
                self.connection.sendall(answer.encode() + b"\n")
        self._forget()

    def _peer(self, name):
        if name not in self.peers:
            self.peers[name] = self.far.take(name)
        return self.peers[name]

    def _connect(self, port):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        s.bind(("127.0.0.1", 0))  # without it, two that go to different ports may get one port
        s.connect(("127.0.0.1", int(port)))
        name = f"p{s.getsockname()[1]}"
        self.peers[name] = s
        return name

    def _send(self, name, letter, n):
        self._peer(name).sendall(letter.encode() * int(n))

    def _fin(self, name):
        self._peer(name).shutdown(socket.SHUT_WR)

    def _reset(self, name):
        s = self._peer(name)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
        del self.peers[name]

    def _receive(self, name):
        s = self._peer(name)
        runs, state = [], "open"
        while True:
            try:
                data = s.recv(1 << 20, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionError:
                state = "reset"
                break
            if not data:
                state = "eof"
                break
            while data:
                letter = data[:1]
                rest = data.lstrip(letter)
                runs.append(f"{letter.decode()}{len(data) - len(rest)}")
                data = rest
        return " ".join(runs) + "; " + state

    def _forget(self, *names):
        for name in names:
            self._peer(name)
        for s in self.peers.values():
            s.close()
        self.peers.clear()
