"""The far ends of the model-based test: connections that read, send, end and reset when they are told to.

The commands are those of tests/model/far.lua. One thread, one control connection."""

import select
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
        self.peers, self.states = {}, {}
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

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
        self._forget()
        for s in [self.control, self.live, self.hole, self.dead, *self.plugs]:
            s.close()

    def _serve(self):
        connection, _ = self.control.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("r") as lines:
            for line in lines:
                words = line.split()
                if words[0] == "stop":
                    self.on_stop()
                    continue
                answer = getattr(self, "_" + words[0])(*words[1:]) or "ok"
                connection.sendall(answer.encode() + b"\n")

    def _peer(self, name):
        while name not in self.peers:
            s, address = self.live.accept()
            self.peers[f"e{address[1]}"] = s
        return self.peers[name]

    def _connect(self, port):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
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

    def _forget(self):
        while select.select([self.live], [], [], 0)[0]:
            s, address = self.live.accept()
            self.peers[f"e{address[1]}"] = s
        for s in self.peers.values():
            s.close()
        self.peers.clear()
