"""The cases of the usual WebSocket conformance suite under its numbers, 517 in all: what is sent to an echo of whole messages, what
has to come back, and how the connection has to end.

    1 frames   2 pings   3 reserved bits   4 opcodes   5 fragments   6 UTF-8   7 closing   9 large and many   10 fragments again
    12 compression of five kinds of data   13 compression as it was agreed on in seven ways

A case is a list of steps: `("send", frames, chop)` and `("get", op, payload)`. `chop`: None, all frames in one piece; "frame", one by one;
a number, so many bytes at a time. Where the suite waits a second, the next step waits for an answer here.
"""

import json
import random

from ws import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

CLEAN = "clean"  # we close, with 1000, and so does the other end
HELLO = b"Hello, world!"
MESSAGES = 1000  # of a case that sends many


class Case:
    """end: CLEAN; "closed": a Close was among the steps; a tuple: codes of which the other end closes with one. deflate: None, or the way
    to agree on compression, which the steps then are for. may: what comes before the end need not come."""

    def __init__(self, number, steps, end=CLEAN, deflate=None, may=False):
        self.number, self.steps, self.end, self.deflate, self.may = number, steps, end, deflate, may

    @property
    def group(self):
        return int(self.number.split(".")[0])


def frame(op, payload=b"", fin=True, rsv=0):
    return (op, payload, fin, rsv)


def send(*frames, chop=None):
    return ("send", frames, chop)


def get(op, payload=b""):
    return ("get", op, payload)


def fragments(op, payload, size, rsv=0):
    """A message in frames of so many bytes (0: one frame)."""
    size = size or max(len(payload), 1)
    starts = range(0, max(len(payload), 1), size)
    return [frame(CONTINUATION if i else op, payload[i:i + size], i == starts[-1], 0 if i else rsv) for i in starts]


def echo(op, payload, chop=None):
    return [send(frame(op, payload), chop=chop), get(op, payload)]


def times(n, unit):
    """unit repeated to n bytes."""
    return (unit * (n // len(unit) + 1))[:n]


# ---- 1 to 5 ----

def frames():
    for group, op, byte in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
        for i, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
            yield Case(f"1.{group}.{i}", echo(op, byte * size))
        yield Case(f"1.{group}.8", echo(op, byte * 65536, 997))


def pings():
    noise = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    long = b"\xfe" * 125

    def answered(payload, chop=None):
        return [send(frame(PING, payload), chop=chop), get(PONG, payload)]

    yield Case("2.1", answered(b""))
    yield Case("2.2", answered(HELLO))
    yield Case("2.3", answered(noise))
    yield Case("2.4", answered(long))
    yield Case("2.5", [send(frame(PING, b"\xfe" * 126))], (1002,))
    yield Case("2.6", answered(long, 1))
    yield Case("2.7", [send(frame(PONG))])
    yield Case("2.8", [send(frame(PONG, b"nobody has asked"))])
    yield Case("2.9", [send(frame(PONG, b"nobody has asked"), frame(PING, b"ping")), get(PONG, b"ping")])
    ten = [b"payload-%d" % i for i in range(10)]
    for number, chop in (("2.10", None), ("2.11", 1)):
        yield Case(number, [send(*(frame(PING, payload) for payload in ten), chop=chop), *(get(PONG, payload) for payload in ten)])


def reserved_bits():
    binary = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    yield Case("3.1", [send(frame(TEXT, HELLO, rsv=1))], (1002,))
    for i, chop in ((2, None), (3, "frame"), (4, 1)):
        yield Case(f"3.{i}", [send(frame(TEXT, HELLO), frame(TEXT, HELLO, rsv=i), frame(PING), chop=chop), get(TEXT, HELLO)], (1002,), may=True)
    yield Case("3.5", [send(frame(BINARY, binary, rsv=5))], (1002,))
    yield Case("3.6", [send(frame(PING, HELLO, rsv=6))], (1002,))
    yield Case("3.7", [send(frame(CLOSE, rsv=7))], (1002,))


def opcodes():
    for group, first in ((1, 3), (2, 11)):
        for i in range(5):
            payload = HELLO if i % 2 else b""
            if i < 2:
                yield Case(f"4.{group}.{i + 1}", [send(frame(first + i, payload))], (1002,))
            else:
                yield Case(f"4.{group}.{i + 1}", [send(frame(TEXT, HELLO), frame(first + i, payload), frame(PING), chop=1 if i == 4 else None),
                                                  get(TEXT, HELLO)], (1002,), may=True)


def fragmentation():
    one, two, ping = b"fragment1", b"fragment2", b"ping payload"
    start, end = frame(TEXT, one, fin=False), frame(CONTINUATION, two)
    chops = (None, "frame", 1)
    for i, op in ((1, PING), (2, PONG)):
        yield Case(f"5.{i}", [send(frame(op, one, fin=False), end)], (1002,))
    for i, chop in enumerate(chops):
        yield Case(f"5.{3 + i}", [send(start, end, chop=chop), get(TEXT, one + two)])
        yield Case(f"5.{6 + i}", [send(start, frame(PING, ping), end, chop=chop), get(PONG, ping), get(TEXT, one + two)])
        for j, fin in ((9, True), (12, False)):
            yield Case(f"5.{j + i}", [send(frame(CONTINUATION, b"of nothing", fin), frame(TEXT, HELLO), chop=chop)], (1002,))
    yield Case("5.15", [send(start, end, frame(CONTINUATION, one, fin=False), frame(TEXT, two)), get(TEXT, one + two)], (1002,), may=True)
    for i, fin in ((16, False), (17, True)):
        yield Case(f"5.{i}", [send(*[frame(CONTINUATION, one, fin), frame(TEXT, two, fin=False), frame(CONTINUATION, two)] * 2)], (1002,))
    yield Case("5.18", [send(start, frame(TEXT, two))], (1002,))
    part = [frame(TEXT if i == 1 else CONTINUATION, b"fragment%d" % i, i == 5) for i in range(1, 6)]
    for i, chop in ((19, None), (20, "frame")):
        yield Case(f"5.{i}", [send(part[0], part[1], frame(PING, b"pongme 1!"), chop=chop), get(PONG, b"pongme 1!"),
                              send(part[2], part[3], frame(PING, b"pongme 2!"), part[4], chop=chop), get(PONG, b"pongme 2!"),
                              get(TEXT, b"fragment1fragment2fragment3fragment4fragment5")])


# ---- 6: UTF-8 ----

GREEK = "κ\u1f79σμε".encode()
FIRST = {1: 0, 2: 0x80, 3: 0x800, 4: 0x10000, 5: 0x200000, 6: 0x4000000}  # of so many bytes
LAST = {1: 0x7F, 2: 0x7FF, 3: 0xFFFF, 4: 0x1FFFFF, 5: 0x3FFFFFF, 6: 0x7FFFFFFF}


def utf8(code, n):
    """A code in n bytes, up to six, as UTF-8 was first thought of: nothing is forbidden."""
    if n == 1:
        return bytes([code])
    return bytes([0xFF00 >> n & 0xFF | code >> 6 * (n - 1)] + [0x80 | code >> 6 * i & 0x3F for i in range(n - 2, -1, -1)])


def lonely(first, last):
    return b"".join(bytes([byte, 0x20]) for byte in range(first, last))


def sequences():
    """Lists of texts, from 6.5 on; the order is that of Markus Kuhn's stress test, where most of them are from."""
    long = range(2, 7)
    cut = [utf8(0, n)[:-1] for n in long] + [utf8(LAST[n], n)[:-1] for n in long]
    high, low = (0xD800, 0xDB7F, 0xDB80, 0xDBFF), (0xDC00, 0xDFFF)
    return [
        [f"hello{c}world".encode() for c in "$¢€\U00024b62"] + [GREEK],
        [GREEK[:i] for i in range(1, len(GREEK) + 1)],
        [utf8(FIRST[n], n) for n in range(1, 5)],
        [utf8(FIRST[n], n) for n in (5, 6)],
        [utf8(LAST[n], n) for n in (1, 2, 3)] + [utf8(0x10FFFF, 4)],
        [utf8(LAST[n], n) for n in (4, 5, 6)],
        [utf8(0xD7FF, 3), utf8(0xE000, 3), utf8(0xFFFD, 3), utf8(0x10FFFF, 4), utf8(0x110000, 4)],
        [b"\x80", b"\xbf"] + [times(n, b"\x80\xbf") for n in range(2, 7)] + [bytes(range(0x80, 0xBF))],
        [lonely(0xC0, 0xDF), lonely(0xE0, 0xEF), lonely(0xF0, 0xF7), lonely(0xF8, 0xFB), lonely(0xFC, 0xFD)],
        cut,
        [b"".join(cut)],
        [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
        [utf8(ord("/"), n) for n in long],
        [utf8(FIRST[n] - 1, n) for n in long],
        [utf8(0, n) for n in long],
        [utf8(code, 3) for code in (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)],
        [utf8(a, 3) + utf8(b, 3) for a in high for b in low],
        [chr(plane << 16 | code).encode() for plane in range(17) for code in (0xFFFE, 0xFFFF)],
        [chr(code).encode() for code in range(0xFFF9, 0x10000)],
    ]


def is_utf8(text):
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def texts():
    hello = "Hello-µ@ßöäüàá-UTF-8!!".encode()
    middle = b"middle frame payload"
    bad = GREEK + b"\xed\xa0\x80" + b"edited"
    yield Case("6.1.1", echo(TEXT, b""))
    for i, text in ((2, b""), (3, middle)):
        yield Case(f"6.1.{i}", [send(frame(TEXT, fin=False), frame(CONTINUATION, text, fin=False), frame(CONTINUATION)), get(TEXT, text)])
    yield Case("6.2.1", echo(TEXT, hello))
    yield Case("6.2.2", [send(frame(TEXT, hello[:12], fin=False), frame(CONTINUATION, hello[12:])), get(TEXT, hello)])
    for i, text in ((3, hello), (4, GREEK)):
        yield Case(f"6.2.{i}", [send(*fragments(TEXT, text, 1)), get(TEXT, text)])
    yield Case("6.3.1", [send(frame(TEXT, bad))], (1007,))
    yield Case("6.3.2", [send(*fragments(TEXT, bad, 1))], (1007,))
    # What makes it invalid is noticed before the rest has come.
    wrong = b"\xf4\x90\x80\x80"
    for i, valid, invalid in ((1, GREEK, wrong), (2, GREEK + wrong[:1], wrong[1:2])):
        yield Case(f"6.4.{i}", [send(frame(TEXT, valid, fin=False), frame(PING)), get(PONG), send(frame(CONTINUATION, invalid, fin=False))], (1007,))
        yield Case(f"6.4.{i + 2}", [("part", frame(TEXT, GREEK + wrong + b"edited"), (valid, invalid))], (1007,))
    for i, group in enumerate(sequences(), 5):
        for j, text in enumerate(group, 1):
            yield Case(f"6.{i}.{j}", echo(TEXT, text) if is_utf8(text) else [send(frame(TEXT, text))], CLEAN if is_utf8(text) else (1007,))


# ---- 7: closing ----

def closing():
    def close(code=None, reason=b""):
        return frame(CLOSE, (code.to_bytes(2, "big") if code is not None else b"") + reason)

    ok = close(1000)
    large = times(256 << 10, b"BAsd7&jh23")
    yield Case("7.1.1", echo(TEXT, b"Hello World!"))
    yield Case("7.1.2", [send(ok, frame(CLOSE))], "closed")
    yield Case("7.1.3", [send(ok, frame(PING))], "closed")
    yield Case("7.1.4", [send(ok, frame(TEXT, b"Hello World!"))], "closed")
    yield Case("7.1.5", [send(frame(TEXT, b"fragment1", fin=False), ok, frame(CONTINUATION, b"fragment2"))], "closed")
    yield Case("7.1.6", [send(frame(TEXT, large), frame(TEXT, HELLO), ok, frame(PING)), get(TEXT, large), get(TEXT, HELLO)], "closed", may=True)
    yield Case("7.3.1", [send(frame(CLOSE))], "closed")
    yield Case("7.3.2", [send(frame(CLOSE, b"a"))], (1002,))
    yield Case("7.3.3", [send(ok)], "closed")
    yield Case("7.3.4", [send(close(1000, b"Hello World!"))], "closed")
    yield Case("7.3.5", [send(close(1000, b"*" * 123))], "closed")
    yield Case("7.3.6", [send(close(1000, b"*" * 124))], (1002,))
    yield Case("7.5.1", [send(close(1000, GREEK + b"\xed\xa0\x80" + b"edited"))], (1002, 1007))
    for i, code in enumerate((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1):
        yield Case(f"7.7.{i}", [send(close(code))], "closed")
    for i, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield Case(f"7.9.{i}", [send(close(code))], (1002,))
    for i, code in ((1, 5000), (2, 65535)):  # the RFC leaves open what is answered
        yield Case(f"7.13.{i}", [send(close(code))], (1002,))


# ---- 9, 10: large and many ----

def large(whole):
    """Whole: sizes up to 16 MiB and 1,000 messages a case."""
    most = 16 << 20 if whole else 128 << 10
    kinds = ((TEXT, b"BAsd7&jh23"), (BINARY, b"\x00\xfe\x23\xfa\xf0"))
    for group, (op, unit) in enumerate(kinds, 1):
        for i, size in enumerate((64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20), 1):
            yield Case(f"9.{group}.{i}", echo(op, times(min(size, most), unit)))
    for group, (op, unit) in enumerate(kinds, 3):
        payload = times(min(4 << 20, most), unit)
        for i, size in enumerate((64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20), 1):
            yield Case(f"9.{group}.{i}", [send(*fragments(op, payload, size), chop=1 << 20), get(op, payload)])
    for group, (op, unit) in enumerate(kinds, 5):
        payload = times(min(1 << 20, most), unit)
        for i, chop in enumerate((64, 128, 256, 512, 1024, 2048), 1):
            yield Case(f"9.{group}.{i}", echo(op, payload, chop))
    for group, (op, unit) in enumerate(kinds, 7):
        for i, size in enumerate((0, 16, 64, 256, 1024, 4096), 1):
            yield Case(f"9.{group}.{i}", echo(op, times(size, unit)) * (MESSAGES if whole else 10))
    yield Case("10.1.1", [send(*fragments(TEXT, b"*" * 65536, 1300)), get(TEXT, b"*" * 65536)])


# ---- 12, 13: compression ----

class Way:
    """How compression is agreed on. A client offers one after the other; a server answers the first that it can."""

    def __init__(self, *agreements):
        self.agreements = agreements  # (no context takeover, window bits or 0): what is asked of the other end


WAYS = [Way((False, 0)), Way((True, 0)), Way((False, 9)), Way((False, 15)), Way((True, 9)), Way((True, 15)), Way((True, 9), (True, 0), (False, 0))]

SIZES = [(n, 0) for n in (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)]
SIZES += [(n, 256) for n in (8192, 16384, 32768, 65536, 131072)] + [(131072, n) for n in (1024, 4096, 32768)]

WORDS = "über und der die das ist nicht ein Haus Wasser Verbindung Nachricht Fenster offen geschlossen wenn aber Jahr".split()


def samples():
    """Five kinds of data, as they are more and less easy to make smaller: [(op, bytes)]."""
    r = random.Random(12)
    rows = [{"id": i, "name": r.choice(WORDS), "value": r.random(), "tags": r.sample(WORDS, 3)} for i in range(1500)]
    image = bytes((x * y // 64 + r.getrandbits(3)) & 0xFF for y in range(256) for x in range(512))
    prose = " ".join(r.choice(WORDS) for _ in range(25000))
    page = "".join(f'<tr class="row{i % 2}"><td>{i}</td><td><a href="/{r.choice(WORDS)}">{r.choice(WORDS)}</a></td></tr>\n' for i in range(2000))
    return [(TEXT, json.dumps(rows).encode()), (BINARY, image), (BINARY, prose.encode()), (TEXT, page.encode("ascii", "xmlcharrefreplace")),
            (BINARY, r.randbytes(140000))]


class Messages:
    """The steps of a case with many compressed messages, made one by one. count: of messages."""

    def __init__(self, op, data, size, fragment, count):
        self.op, self.data, self.size, self.fragment, self.count = op, data, size, fragment, count

    def __iter__(self):
        at = 0
        for _ in range(self.count):
            payload = (self.data[at:at + self.size] + self.data)[:self.size]
            at = (at + self.size) % len(self.data)
            yield ("packed", self.op, payload, self.fragment)
            yield get(self.op, payload)


def compression(whole):
    data = samples()
    kinds = [(12, i, sample, WAYS[0]) for i, sample in enumerate(data, 1)] + [(13, i, data[0], way) for i, way in enumerate(WAYS, 1)]
    for group, i, (op, sample), way in kinds:
        for j, (size, fragment) in enumerate(SIZES, 1):
            count = MESSAGES if whole else 3
            yield Case(f"{group}.{i}.{j}", Messages(op, sample, size, fragment, count), deflate=way)


def cases(whole):
    """All 517. whole: in the sizes and numbers of messages that the suite has; otherwise the last groups are made small."""
    return [*frames(), *pings(), *reserved_bits(), *opcodes(), *fragmentation(), *texts(), *closing(), *large(whole), *compression(whole)]
