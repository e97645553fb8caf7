"""A RADIUS client as a script (datagrams), against a server of twenty lines."""

import hashlib
import socket
import threading

import harness
import protocols

SECRET = b"testing123"


def md5(*parts):
    return hashlib.md5(b"".join(parts)).digest()


def serve(sock):
    while True:
        try:
            data, peer = sock.recvfrom(4096)
        except OSError:
            return
        nonce, attributes, at = data[4:20], {}, 20
        while at < len(data):
            attributes[data[at]] = data[at + 2:at + data[at + 1]]
            at += data[at + 1]
        name, hidden, password, last = attributes[1], attributes[2], b"", nonce
        for i in range(0, len(hidden), 16):
            password += bytes(a ^ b for a, b in zip(hidden[i:i + 16], md5(SECRET, last)))
            last = hidden[i:i + 16]
        if name == b"silent":
            continue
        code = 2 if (name, password.rstrip(b"\0")) == (b"bob", b"hello") else 3
        head = bytes([code, data[1], 0, 20])
        sock.sendto(head + md5(head, nonce, b"?" if name == b"mallory" else SECRET), peer)


class Radius(protocols.ProtocolCase):
    def test_client(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            threading.Thread(target=serve, args=(sock,), daemon=True).start()
            self.run_script("radius", sock.getsockname()[1])


if __name__ == "__main__":
    harness.main()
