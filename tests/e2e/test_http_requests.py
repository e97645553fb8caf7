"""Requests of HTTP/1.1, whole and in fragments, good and bad, over TCP and TLS, at a page that echoes bodies under any method.
The cases are those of the public suite h1spec, and a few of the same kind."""

import os
import ssl

import harness
import pki

HOST = "Host: example.com\r\n"
POST = f"POST / HTTP/1.1\r\n{HOST}"
GET = f"GET / HTTP/1.1\r\n{HOST}"

# Sent up to each of these places, a request is not answered yet.
WHOLE = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
CUTS = [WHOLE.index(end) + len(end) for end in (
    "G", "GET ", "/hello", "/hello ", "HTTP", "HTTP/1.1", "1.1\r", "1.1\r\n", "Hos", "Host:", "Host: ", "localhost", "localhost\r",
    "localhost\r\n", "localhost\r\n\r")]

# What is sent, the statuses that are right, the body of a 200.
CASES = {
    "no version": ("GET / \r\n\r\n", (400,), None),
    "Expect without a body": (f"{GET}Expect: 100-continue\r\n\r\n", (200,), b""),
    "Expect with a body that is there": (f"{POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", (100, 200), b"hello"),
    "plain GET": (f"{GET}\r\n", (200,), b""),
    "odd spelling, a tab, an empty field": ("GET / HTTP/1.1\r\nhoSt:\texample.com\r\nempty:\r\n\r\n", (200,), b""),
    "an empty value": (f"{GET}X-Empty-Header: \r\n\r\n", (200,), b""),
    "bad characters in a name": (f"{GET}X-Invalid[]: test\r\n\r\n", (400,), None),
    "no Host": ("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", (400,), None),
    "two Hosts": (f"{GET}Host: example.org\r\n\r\n", (400,), None),
    "a negative length beyond all numbers": (f"{GET}Content-Length: -123456789123456789123456789\r\n\r\n", (400,), None),
    "a negative length": (f"{GET}Content-Length: -1234\r\n\r\n", (400,), None),
    "a length that is no number": (f"{GET}Content-Length: abc\r\n\r\n", (400,), None),
    "a control character in a value": (f"{GET}X-Bad-Control-Char: test\x07\r\n\r\n", (400,), None),
    "a version that is none": (f"GET / HTTP/9.9\r\n{HOST}\r\n", (505,), None),
    "something in front": (f"Extra line{GET}\r\n", (400,), None),
    "a bare CR": (f"{GET}\rSome-Header: Test\r\n\r\n", (400,), None),
    "a body": (f"{POST}Content-Length: 5\r\n\r\nhello", (200,), b"hello"),
    "a body in chunks": (f"{POST}Transfer-Encoding: chunked\r\n\r\nc\r\nHellO world1\r\n0\r\n\r\n", (200,), b"HellO world1"),
    "chunks, an extension, a trailer": (f"{POST}Transfer-Encoding: chunked\r\n\r\nC;a=b\r\nHellO world1\r\n00\r\nX: y\r\n\r\n", (200,),
                                        b"HellO world1"),
    "length and chunks": (f"{POST}content-LengtH: 5\r\nTransFer-Encoding: chunked\r\n\r\nc\r\nHellO world1\r\n0\r\n\r\n", (400,), None),
    "an unknown method": (f"BREW / HTTP/1.1\r\n{HOST}Content-Length: 2\r\n\r\nhi", (200,), b"hi"),
    "an absolute target": (f"GET http://example.com/ HTTP/1.1\r\n{HOST}\r\n", (200,), b""),
    "an empty line in front": (f"\r\n{GET}\r\n", (200,), b""),
}


class Requests(harness.Case):
    def setUp(self):
        super().setUp()
        os.mkdir(f"{self.directory}/www")
        for page in ("index.lsp", "hello/index.lsp"):
            os.makedirs(os.path.dirname(f"{self.directory}/www/{page}"), exist_ok=True)
            self.write(f"www/{page}", "<?lsp response:setcontenttype 'text/plain' for data in request:rawrdr() do response:write(data) end ?>")
        self.port, self.tls_port = harness.free_port(), harness.free_port()
        cert, key = pki.Pki(self.directory).issue("requests.example")
        self.service(f'service "www" {{ app = "www", listen = "127.0.0.1:{self.port}", listen_tls = "127.0.0.1:{self.tls_port}",\n'
                     f'  tls = {{ cert = "{cert}", key = "{key}" }} }}\n', [self.port, self.tls_port])

    def open(self, tls):
        if not tls:
            return self.connect(self.port)
        context = ssl._create_unverified_context()
        return context.wrap_socket(self.connect(self.tls_port))

    def answers(self, s, count):
        """(status, body) of so many answers, 100 among them."""
        got, result = b"", []
        while len(result) < count:
            head, found, rest = got.partition(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    length = int(line[15:])
            if not found or len(rest) < length:
                data = s.recv(65536)
                self.assertTrue(data, got)
                got += data
                continue
            result.append((int(head[9:12]), rest[:length]))
            got = rest[length:]
        self.assertEqual(got, b"")
        return result

    def check_fragments(self, tls):
        self.assertEqual(len(CUTS), 15)
        with self.open(tls) as s:
            for cut in CUTS:  # one answer for the whole, none for the part: what comes is the next request's
                s.sendall(WHOLE[:cut].encode())
                s.sendall(WHOLE[cut:].encode())
                self.assertEqual(self.answers(s, 1), [(301, b"")])
            for byte in WHOLE.encode() + WHOLE.encode():
                s.sendall(bytes([byte]))
            self.assertEqual(self.answers(s, 2), [(301, b"")] * 2)

    def check_cases(self, tls):
        for name, (data, statuses, body) in CASES.items():
            with self.subTest(name), self.open(tls) as s:
                s.sendall(data.encode("latin-1"))
                got = self.answers(s, len(statuses))
                self.assertEqual(tuple(status for status, _ in got), statuses)
                if body is None:
                    self.assertEqual(harness.read_all(s), b"", "and closes")
                else:
                    self.assertEqual(got[-1][1], body)
                    s.sendall(f"{GET}\r\n".encode())  # and goes on
                    self.assertEqual(self.answers(s, 1), [(200, b"")])

    def test_fragments(self):
        self.check_fragments(False)

    def test_fragments_over_tls(self):
        self.check_fragments(True)

    def test_cases(self):
        self.check_cases(False)

    def test_cases_over_tls(self):
        self.check_cases(True)


if __name__ == "__main__":
    harness.main()
