"""TLS 1.3 by hand (RFC 8446), for what no library would send: each message and record is made and sent by the test.

One suite (AES-128-GCM with SHA-256) and one group (X25519); nothing that a peer says is checked."""

import os
import ssl
import struct

from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CCS, ALERT, HANDSHAKE, DATA, HEARTBEAT = 20, 21, 22, 23, 24
CLIENT_HELLO, SERVER_HELLO, TICKET, END_OF_EARLY, ENCRYPTED_EXTENSIONS, CERTIFICATE, REQUEST, VERIFY, FINISHED, KEY_UPDATE = (
    1, 2, 4, 5, 8, 11, 13, 15, 20, 24)
SNI, GROUPS, SIGNATURES, ALPN, PSK, EARLY_DATA, VERSIONS, COOKIE, PSK_MODES, SHARES = 0, 10, 13, 16, 41, 42, 43, 44, 45, 51
SUITE, X25519 = b"\x13\x01", b"\x00\x1d"
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")  # random of a HelloRetryRequest


def v8(b):
    return bytes([len(b)]) + b


def v16(b):
    return struct.pack(">H", len(b)) + b


def v24(b):
    return struct.pack(">I", len(b))[1:] + b


def message(kind, body, length=None):
    return bytes([kind]) + (v24(body) if length is None else struct.pack(">I", length)[1:] + body)


def record(kind, payload, version=b"\x03\x03", length=None):
    return bytes([kind]) + version + struct.pack(">H", len(payload) if length is None else length) + payload


def extension(kind, body):
    return struct.pack(">H", kind) + v16(body)


def mac(key, data):
    h = hmac.HMAC(key, hashes.SHA256())
    h.update(data)
    return h.finalize()


def digest(data):
    h = hashes.Hash(hashes.SHA256())
    h.update(data)
    return h.finalize()


def expand(secret, label, context=b"", length=32):
    info = struct.pack(">H", length) + v8(b"tls13 " + label) + v8(context)
    return HKDFExpand(hashes.SHA256(), length, info).derive(secret)


class Ended(Exception):
    """By an alert of the peer: its number."""


class Keys:
    """One direction."""

    def __init__(self, secret):
        self.secret, self.sequence = secret, 0
        self.aead, self.iv = AESGCM(expand(secret, b"key", length=16)), expand(secret, b"iv", length=12)

    def nonce(self):
        number = struct.pack(">Q", self.sequence).rjust(12, b"\0")
        self.sequence += 1
        return bytes(a ^ b for a, b in zip(self.iv, number))

    def seal(self, kind, payload, padding=0):
        inner = payload + (bytes([kind]) if kind is not None else b"") + bytes(padding)
        head = b"\x17\x03\x03" + struct.pack(">H", len(inner) + 16)
        return head + self.aead.encrypt(self.nonce(), inner, head)

    def open(self, head, payload):
        inner = self.aead.decrypt(self.nonce(), payload, head).rstrip(b"\0")
        return inner[-1], inner[:-1]

    def next(self):
        return Keys(expand(self.secret, b"traffic upd"))

    def finished(self, transcript):
        return message(FINISHED, mac(expand(self.secret, b"finished"), digest(transcript)))


class Peer:
    """What client and server share: records in and out, the key schedule."""

    def __init__(self, sock):
        self.sock, self.pending = sock, b""
        self.read_keys = self.write_keys = self.after = self.secret = self.last_hello = None
        self.transcript, self.messages = b"", b""
        self.private = x25519.X25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the peer thinks of it is read later

    def put(self, kind, payload, padding=0):
        """One record, encrypted once there are keys."""
        self.send(self.write_keys.seal(kind, payload, padding) if self.write_keys else record(kind, payload))

    def say(self, text):
        """A handshake message that counts."""
        self.transcript += text
        self.put(HANDSHAKE, text)

    def exactly(self, n):
        while len(self.pending) < n:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.pending += data
        data, self.pending = self.pending[:n], self.pending[n:]
        return data

    def get(self):
        """The next record but for change_cipher_spec: kind, payload."""
        while True:
            head = self.exactly(5)
            payload = self.exactly(struct.unpack(">H", head[3:])[0])
            if head[0] == DATA and self.read_keys:
                return self.read_keys.open(head, payload)
            if head[0] != CCS:
                return head[0], payload

    def hear(self):
        """The next handshake message, which counts."""
        while len(self.messages) < 4 or len(self.messages) < 4 + int.from_bytes(self.messages[1:4], "big"):
            kind, payload = self.get()
            if kind == ALERT:
                raise Ended(payload[1])
            if kind != HANDSHAKE:
                raise AssertionError(f"record of type {kind} in place of a handshake message: {payload.hex()}")
            self.messages += payload
        n = 4 + int.from_bytes(self.messages[1:4], "big")
        text, self.messages = self.messages[:n], self.messages[n:]
        self.transcript += text
        return text

    def derive(self, secret, label):
        return Keys(expand(secret, label, digest(self.transcript)))

    def handshake_keys(self, share):
        """(client's, server's), after the ServerHello."""
        secret = mac(bytes(32), bytes(32))
        shared = self.private.exchange(x25519.X25519PublicKey.from_public_bytes(share))
        self.secret = mac(expand(secret, b"derived", digest(b"")), shared)
        return self.derive(self.secret, b"c hs traffic"), self.derive(self.secret, b"s hs traffic")

    def traffic_keys(self):
        """(client's, server's), after the server's Finished."""
        master = mac(expand(self.secret, b"derived", digest(b"")), bytes(32))
        return self.derive(master, b"c ap traffic"), self.derive(master, b"s ap traffic")

    def verdict(self):
        """How the peer ends it: the number of its fatal alert, or "closed"; "data" when it goes on as if all were well."""
        try:
            while True:
                kind, payload = self.get()
                if kind == ALERT:
                    return payload[1] if payload[0] == 2 or payload[1] != 0 else "closed"
                if kind == DATA:
                    return "data"
        except (EOFError, ConnectionResetError):
            return "closed"


class Client(Peer):
    def extensions(self):
        """Those of an ordinary hello, in order."""
        return {
            SNI: v16(b"\0" + v16(b"localhost")), GROUPS: v16(X25519), SIGNATURES: v16(bytes.fromhex("0403080408050401")),
            VERSIONS: v8(b"\x03\x04"), SHARES: v16(X25519 + v16(self.public)), PSK_MODES: v8(b"\1"),
        }

    def hello(self, extensions=None, version=b"\x03\x03", session=bytes(32), suites=SUITE, compression=b"\0", tail=b""):
        """The ClientHello as a message; extensions: a dict, or a list of pairs."""
        extensions = self.extensions() if extensions is None else extensions
        pairs = extensions.items() if isinstance(extensions, dict) else extensions
        body = version + os.urandom(32) + v8(session) + v16(suites) + v8(compression)
        self.last_hello = message(CLIENT_HELLO, body + v16(b"".join(extension(k, b) for k, b in pairs)) + tail)
        return self.last_hello

    def server_flight(self):
        """Reads ServerHello to Finished. The handshake keys are in use then; what the server sends has its traffic keys."""
        hello = self.hear()
        rest = hello[4 + 2 + 32:]
        rest = rest[1 + rest[0] + 3 + 2:]
        share = None
        while rest:
            kind, n = struct.unpack(">HH", rest[:4])
            share = rest[8:4 + n] if kind == SHARES else share
            rest = rest[4 + n:]
        self.write_keys, self.read_keys = self.handshake_keys(share)
        while self.hear()[0] != FINISHED:
            pass
        self.after, self.read_keys = self.traffic_keys()

    def finish(self):
        """The traffic keys are in use afterwards."""
        self.say(self.write_keys.finished(self.transcript))
        self.write_keys = self.after

    def handshake(self):
        self.say(self.hello())
        self.server_flight()
        self.finish()


class Server(Peer):
    def __init__(self, sock, cert, key):
        super().__init__(sock)
        with open(cert, encoding="ascii") as f:
            pem = f.read()
        self.der = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN"):])
        with open(key, "rb") as f:
            self.key = serialization.load_pem_private_key(f.read(), None)

    def listen(self):
        """Reads the ClientHello."""
        body = self.hear()[4 + 2 + 32:]
        self.session, body = body[1:1 + body[0]], body[1 + body[0]:]
        suites = struct.unpack(">H", body[:2])[0]
        body = body[2 + suites:]
        body = body[1 + body[0] + 2:]
        self.offered, self.share = [], None
        while body:
            kind, n = struct.unpack(">HH", body[:4])
            self.offered.append(kind)
            shares = body[6:4 + n] if kind == SHARES else b""
            while shares:
                size = struct.unpack(">H", shares[2:4])[0]
                self.share = shares[4:4 + size] if shares[:2] == X25519 else self.share
                shares = shares[4 + size:]
            body = body[4 + n:]

    def hello(self, extensions=None, version=b"\x03\x03", random=None, session=None, suite=SUITE, compression=b"\0"):
        pairs = [(SHARES, X25519 + v16(self.public)), (VERSIONS, b"\x03\x04")] if extensions is None else extensions
        return message(SERVER_HELLO, version + (random or os.urandom(32)) + v8(self.session if session is None else session) +
                       suite + compression + v16(b"".join(extension(k, b) for k, b in pairs)))

    def greet(self):
        """Reads the ClientHello, answers, and has the handshake keys in use."""
        self.listen()
        self.say(self.hello())
        self.read_keys, self.write_keys = self.handshake_keys(self.share)

    def encrypted_extensions(self, pairs=()):
        return message(ENCRYPTED_EXTENSIONS, v16(b"".join(extension(k, b) for k, b in pairs)))

    def certificate(self):
        return message(CERTIFICATE, b"\0" + v24(v24(self.der) + v16(b"")))

    def verify(self, transcript=None, algorithm=b"\x04\x03", context=b"TLS 1.3, server CertificateVerify"):
        signed = b" " * 64 + context + b"\0" + digest(self.transcript if transcript is None else transcript)
        return message(VERIFY, algorithm + v16(self.key.sign(signed, ec.ECDSA(hashes.SHA256()))))
