"""WebSockets made by hand (RFC 6455): what a test sends and sees, frame by frame, also what no library would send."""

import base64
import hashlib
import os
import socket
import struct

import harness

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def apply_mask(data, mask):
    if not data:
        return data
    n = len(data)
    key = (mask * (n // 4 + 1))[:n]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(n, "big")


def frame(payload=b"", op=BINARY, fin=True, rsv=0, mask=None, length=None, wide=0):
    """mask: four bytes, None for no mask. length: another one than the payload's. wide: at least so many bytes for it."""
    n = len(payload) if length is None else length
    bit = 0x80 if mask is not None else 0
    first = (0x80 if fin else 0) | rsv << 4 | op
    if n < 126 and wide < 2:
        head = struct.pack(">BB", first, bit | n)
    elif n < 65536 and wide < 8:
        head = struct.pack(">BBH", first, bit | 126, n)
    else:
        head = struct.pack(">BBQ", first, bit | 127, n)
    return head + (mask + apply_mask(payload, mask) if mask is not None else payload)


class Frame:
    def __init__(self, fin, rsv, op, payload, masked):
        self.fin, self.rsv, self.op, self.payload, self.masked = fin, rsv, op, payload, masked

    def __repr__(self):
        return f"Frame(fin={self.fin}, rsv={self.rsv}, op={self.op}, {self.payload[:40]!r}... {len(self.payload)} bytes)"


class Peer:
    """One end of a WebSocket on a connected socket."""

    def __init__(self, sock, client):
        self.sock, self.client = sock, client
        self.rest = b""
        self.close_sent = False
        self.compression = None  # for its user

    def send(self, payload=b"", op=BINARY, **options):
        if self.client:
            options.setdefault("mask", os.urandom(4))
        self.sock.sendall(frame(payload, op, **options))

    def raw(self, data):
        self.sock.sendall(data)

    def _need(self, n):
        parts, have = [self.rest], len(self.rest)
        while have < n:
            data = self.sock.recv(1 << 20)
            if not data:
                self.rest = b"".join(parts)
                raise EOFError(f"ended with {have} of {n} bytes")
            parts.append(data)
            have += len(data)
        data = b"".join(parts)
        self.rest = data[n:]
        return data[:n]

    def frame(self):
        first, second = self._need(2)
        n = second & 0x7F
        if n == 126:
            (n,) = struct.unpack(">H", self._need(2))
        elif n == 127:
            (n,) = struct.unpack(">Q", self._need(8))
        masked = bool(second & 0x80)
        mask = self._need(4) if masked else None
        payload = self._need(n)
        return Frame(bool(first & 0x80), first >> 4 & 7, first & 15, apply_mask(payload, mask) if masked else payload, masked)

    def message(self):
        """(op, payload) of the next data message; pings are answered."""
        op, parts = None, []
        while True:
            f = self.frame()
            if f.op == PING:
                self.send(f.payload, PONG)
            elif f.op == CLOSE:
                raise EOFError(f"Close {f.payload!r}")
            elif f.op < 8:
                op = op if op is not None else f.op
                parts.append(f.payload)
                if f.fin:
                    return op, b"".join(parts)

    def bytes(self, n):
        """So many bytes of messages' payload."""
        parts, have = [], 0
        while have < n:
            data = self.message()[1]
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    def closed(self):
        """The code of the peer's Close, which ends the connection; None: it had none. It is answered. Other frames are skipped."""
        while True:
            f = self.frame()
            if f.op == CLOSE:
                break
        try:
            if not self.close_sent:
                self.send(f.payload, CLOSE)
            while self.sock.recv(65536):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass
        return struct.unpack(">H", f.payload[:2])[0] if f.payload else None

    def close(self, code=1000):
        self.send(struct.pack(">H", code), CLOSE)
        self.close_sent = True

    def end(self):
        self.sock.close()


def read_head(sock):
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise EOFError(f"no head: {data!r}")
        data += byte
    lines = data.decode().split("\r\n")
    return lines[0], {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:] if line)}


def key_answer(key):
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


class Refused(Exception):
    def __init__(self, status, header):
        super().__init__(f"status {status}")
        self.status, self.header = status, header


def connect(sock, target="/", subprotocols=(), header=()):
    """The client's handshake; (Peer, header of the answer)."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {target} HTTP/1.1", "Host: test", "Upgrade: websocket", "Connection: Upgrade",
             f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
    if subprotocols:
        lines.append("Sec-WebSocket-Protocol: " + ", ".join(subprotocols))
    lines += [f"{name}: {value}" for name, value in header]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    first, answer = read_head(sock)
    status = int(first.split()[1])
    if status != 101:
        raise Refused(status, answer)
    if answer["sec-websocket-accept"] != key_answer(key):
        raise AssertionError("wrong Sec-WebSocket-Accept")
    return Peer(sock, True), answer


def accept(sock, header=()):
    """The server's handshake; (Peer, target, header of the request). header: more fields of the answer, or what makes them of the request."""
    first, request = read_head(sock)
    header = header(request) if callable(header) else header
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Accept: " + key_answer(request["sec-websocket-key"])]
    lines += [f"{name}: {value}" for name, value in header]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    return Peer(sock, False), first.split()[1], request


def quiet(sock, seconds=0.2):
    """True when nothing comes for a while."""
    sock.settimeout(seconds)
    try:
        return sock.recv(1, socket.MSG_PEEK) is None
    except TimeoutError:
        return True
    finally:
        sock.settimeout(20 * harness.SLOW)
