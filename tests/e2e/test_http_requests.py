"""Requests of HTTP/1.1, whole and in fragments, good and bad, over TCP and TLS, at a page that echoes bodies under any method.
The cases are those of the public suites h1spec and Http11Probe, as far as they are about requests, and a few of the same kind. Where a
suite leaves the choice, it is the strict one here."""

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
    "two requests": (f"{GET}\r\n{POST}Content-Length: 2\r\n\r\nhi", (200, 200), b"hi"),
    "nothing said of a body": (f"{POST}\r\n", (200,), b""),
    "a length of nothing": (f"{POST}Content-Length: 00\r\n\r\n", (200,), b""),
    "a length with zeros in front": (f"{POST}Content-Length: 005\r\n\r\nhello", (200,), b"hello"),
    "blanks around a length": (f"{POST}Content-Length: \t 5 \t\r\n\r\nhello", (200,), b"hello"),
    "several chunks": (f"{POST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n, you worl\r\n1\r\nd\r\n0\r\n\r\n", (200,), b"hello, you world"),
    "no chunk but the last": (f"{POST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (200,), b""),
    "extensions of chunks": (f"{POST}Transfer-Encoding: chunked\r\n\r\n5;a;b=c;d=\"e;\\\"\"\r\nhello\r\n0;f\r\n\r\n", (200,), b"hello"),
    "GET with a body": (f"{GET}Content-Length: 5\r\n\r\nhello", (200,), b"hello"),
    "OPTIONS with a body": (f"OPTIONS / HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello", (200,), b"hello"),
    "OPTIONS of the server": (f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n", (204,), b""),
    "a method in lower case": (f"get / HTTP/1.1\r\n{HOST}\r\n", (200,), b""),
    "a minor version to come": (f"GET / HTTP/1.2\r\n{HOST}\r\n", (200,), b""),
    "an absolute target elsewhere": (f"GET http://other.example/ HTTP/1.1\r\n{HOST}\r\n", (200,), b""),
    "a range of a page": (f"{POST}Content-Length: 5\r\nRange: bytes=0-1\r\n\r\nhello", (200,), b"hello"),
    "a WebSocket by POST": (f"{POST}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", (200,), b""),
    "an upgrade to something": (f"{GET}Connection: Upgrade\r\nUpgrade: something/1.0\r\n\r\n", (200,), b""),
    "an underscore in a name": (f"{POST}Content_Length: 99\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", (200,), b"hello"),
    "a body type twice": (f"{POST}Content-Type: text/plain\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello", (200,), b"hello"),
    "a long target": (f"GET /?{'x' * 8000} HTTP/1.1\r\n{HOST}\r\n", (200,), b""),
    "cookies of all kinds": (f"{GET}Cookie: a=hello world; b=x=y; ===;;;\r\nCookie:\r\n\r\n", (200,), b""),
    # the last of its connection
    "HTTP/1.0 without Host": ("GET / HTTP/1.0\r\n\r\n", (200,), None),
    "HTTP/1.0 expects nothing": ("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", (200,), None),
    "a connection to be closed": (f"{GET}Connection: close\r\n\r\n{GET}\r\n", (200,), None),
    "an expectation of something else": (f"{GET}Expect: 200-ok\r\n\r\n", (417,), None),
    "a compressed body": (f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n", (501,), None),
    "the preface of HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505,), None),
    "a target that is too long": (f"GET /{'x' * 100000} HTTP/1.1\r\n{HOST}\r\n", (414,), None),
    "a value that is too long": (f"{GET}X: {'x' * 100000}\r\n\r\n", (431,), None),
    "a name that is too long": (f"{GET}{'x' * 100000}: x\r\n\r\n", (431,), None),
    "too many fields": (GET + "X: y\r\n" * 10000 + "\r\n", (431,), None),
    "an extension that is too long": (f"{POST}Transfer-Encoding: chunked\r\n\r\n5;{'x' * 65536}\r\nhello\r\n0\r\n\r\n", (400,), None),
}

# Refused with 400, and what follows is not read as a request: whole heads, a line of a head, a body in chunks.
HEADS = (
    "GET / HTTP/1.1\nHost: a\r\n", "GET / HTTP/1.1\rHost: a\r\n", "GET  / HTTP/1.1\r\nHost: a\r\n", "GET\t/ HTTP/1.1\r\nHost: a\r\n",
    "GET HTTP/1.1\r\nHost: a\r\n", "GET /\r\n", "GET /#x HTTP/1.1\r\nHost: a\r\n", "GET * HTTP/1.1\r\nHost: a\r\n",
    "GET /a b HTTP/1.1\r\nHost: a\r\n", "GET /\0x HTTP/1.1\r\nHost: a\r\n", "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n",
    "GET /\xc0\xaf HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1\r\nHost: a\r\n", "GET / HTTP/01.01\r\nHost: a\r\n",
    "GET / HTTP/ 1.1\r\nHost: a\r\n", "GET / http/1.1\r\nHost: a\r\n", " \r\n", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n",
    "GET / HTTP/1.1\r\n \r\nHost: a\r\n", "\x16\x03\x01", "GET / HTTP/1.1\r\nHost:\r\n", "GET / HTTP/1.1\r\nHost: a, b\r\n",
    "GET / HTTP/1.1\r\nHost: u@a\r\n", "GET / HTTP/1.1\r\nHost: a/b\r\n", f"{'X' * 100000} / HTTP/1.1\r\nHost: a\r\n",
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
)
FIELDS = (
    "Host: example.com", "X: y\r\n z", "X : y", ": y", "X\tY: z", "X[: y", "X\xc3\xab: y", "X", "X: \0", "X: \x01", "X: y\rz", "X: y\nZ: a",
    "Content-Length:", "Content-Length: +5", "Content-Length: -0", "Content-Length: 5, 10", "Content-Length: 5, 5", "Content-Length: 0o5",
    "Content-Length: 0x5", "Content-Length: 1 0", "Content-Length: 1_0", "Content-Length: 99999999999999999999", "Content-Length : 5",
    "Content-Length: 5\r\nContent-Length: 10", "Content-Length: 5\r\nContent-Length: 5",
    "Transfer-Encoding:", "Transfer-Encoding: gzip", "Transfer-Encoding: xchunked", "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, gzip", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: , chunked", "Transfer-Encoding: chunked,",
    "Transfer-Encoding: chunked;a=b", "Transfer-Encoding : chunked", "Transfer-Encoding:\r\n chunked", "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: \x0cchunked", "Transfer-Encoding: chunked\0", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: chunked\r\nContent-Length: 5", "Transfer-Encoding: chunked \r\nContent-Length: 5",
    "Transfer-Encoding:\tchunked\r\nContent-Length: 5", "Content-Length: 5\r\nTRANSFER-ENCODING: Chunked",
)
CHUNKS = (
    "+0\r\n\r\n", "-1\r\nx\r\n", "0x5\r\nhello\r\n0\r\n", " 5\r\nhello\r\n0\r\n", "5 \r\nhello\r\n0\r\n", "1_0\r\nhello world!!!!!\r\n0\r\n",
    "FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n", "5\r\nhello0\r\n", "5\r\nhello!!\r\n0\r\n", "5\r\nhello\n0\r\n", "5\rhello\r\n0\r\n",
    "5\nhello\r\n0\r\n", "5;\r\nhello\r\n0\r\n", "5;a[=b\r\nhello\r\n0\r\n", "5;a\nb\r\nhello\r\n0\r\n", "5;a\rb\r\nhello\r\n0\r\n",
    "5;a\0\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\nX: y\r\n", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n",
    "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nHost: b\r\n",
)
for bad in (*HEADS, *(f"{GET}{field}\r\n" for field in FIELDS), *(f"{POST}Transfer-Encoding: chunked\r\n\r\n{body}" for body in CHUNKS)):
    CASES[repr(bad[:200])] = (f"{bad}\r\n{GET}\r\n", (400,), None)


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

    def test_fields_of_answers(self):
        """What an answer must have, and must not."""
        self.write("www/file.txt", "hello")
        date = r"\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n"
        for line, status, there, not_there in (
                ("GET / HTTP/1.1", 200, (date, "\r\nContent-Type: text/plain\r\n"), ()),
                ("HEAD /file.txt HTTP/1.1", 200, (date, "\r\nContent-Length: 5\r\n", "\r\n\r\n$"), ()),
                ("OPTIONS * HTTP/1.1", 204, (date, "\r\nAllow: "), ("Content-Length",)),
                ("DELETE /file.txt HTTP/1.1", 405, (date, "\r\nAllow: GET, HEAD\r\n"), ()),
                ("TRACE / HTTP/1.1", 405, (date, "\r\nAllow: "), ("secret",)),
                ("CONNECT a:443 HTTP/1.1", 501, (date,), ()),
                ("GET /%00 HTTP/1.1", 400, (date,), ()),
                ("GET /%0d%0aX:%20y HTTP/1.1", 404, (date,), ("\r\nX: y",)),
                ("GET /\\file.txt HTTP/1.1", 400, (date,), ()),
                ("GET ? HTTP/1.1", 400, (date, "\r\nConnection: close\r\n"), ())):
            with self.subTest(line), self.open(False) as s:
                s.sendall(f"{line}\r\n{HOST}Authorization: secret\r\nConnection: close\r\n\r\n".encode())
                answer = harness.read_all(s).decode()
                self.assertEqual(int(answer[9:12]), status)
                for pattern in there:
                    self.assertRegex(answer, pattern)
                for text in not_there:
                    self.assertNotIn(text, answer)

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
