"""Malformed and unusual handshakes, of the classes that public conformance suites have: what must be refused is, with an
alert that says so, nothing hangs, and the daemon serves the next client. TLS 1.3 is spoken by tls13.py; as a client and as a
server of ours."""

import functools
import os
import socket
import struct

import harness
import pki
import tls13
from tls13 import ALERT, CCS, DATA, HANDSHAKE, HEARTBEAT, Client, Server, message, record, v8, v16, v24

# Alerts (RFC 8446, 6). Where BoringSSL names another reason than the RFC does, both are good: what counts is that it refuses.
(UNEXPECTED, BAD_MAC, OVERFLOW, FAILURE, BAD_CERT, ILLEGAL, DECODE, DECRYPT, VERSION, INTERNAL, MISSING, UNSUPPORTED, NAME, REQUIRED,
 NO_PROTOCOL) = 10, 20, 22, 40, 42, 47, 50, 51, 70, 80, 109, 110, 112, 116, 120

# words: port, certificate, key, port that wants client certificates, authority
SERVER = pki.ECHO + """
serve(arg[1], ba.create.sharkssl(nil, {server = true, alpn = "h2,x"}))
local store = ba.create.certstore()
store:addcert {file = arg[5]}
serve(arg[4], ba.create.sharkssl(store, {server = true}))
"""

# words: port, authority, port of the test; a line per connection: "ok", or the error
CLIENT = """
local store = ba.create.certstore()
store:addcert {file = arg[2]}
local client = ba.create.sharkssl(store, {alpn = "h2"})
assert(ba.socket.bind(tonumber(arg[1]), {intf = "127.0.0.1"})):event(function(listener)
  for sock in listener.accept, listener do
    ba.thread.run(function()
      local up, err = ba.socket.connect("127.0.0.1", tonumber(arg[3]),
                                        {shark = client, host = "localhost", trusted = true, timeout = 20000})
      local data
      if up then
        data, err = up:read(20000)
        up:close()
      end
      sock:write(data or err)
      sock:close()
    end)
  end
end)
"""

# ---- as a client: (what must come, what is sent instead of a handshake) ----

CLIENT_CASES = []


def case(*expected):
    def add(f):
        CLIENT_CASES.append((f.__name__.replace("_", " "), set(expected), f))
        return f
    return add


def cases(expected, name, variants):
    """Several of one kind: variants is a list of (name, function)."""
    for variant, f in variants:
        CLIENT_CASES.append((f"{name}: {variant}", set(expected), f))


def hello_with(kind, body):
    """An ordinary hello in which one extension has another body (None: is not there)."""
    def send(c):
        extensions = c.extensions()
        extensions.pop(kind, None)
        if body is not None:
            extensions[kind] = body
        c.put(HANDSHAKE, c.hello(extensions))
    return send


def hello_field(**fields):
    return lambda c: c.put(HANDSHAKE, c.hello(**fields))


cases({UNEXPECTED, DECODE, VERSION, ILLEGAL, OVERFLOW, "closed"}, "first record", [
    ("of type %d" % kind, functools.partial(lambda kind, c: c.send(record(kind, c.hello())), kind))
    for kind in (0, CCS, DATA, HEARTBEAT, 25, 255)] + [
    ("an alert", lambda c: c.send(record(ALERT, b"\2\50"))),
    ("version 2.0", lambda c: c.send(record(HANDSHAKE, c.hello(), b"\2\0"))),
    ("version 4.0", lambda c: c.send(record(HANDSHAKE, c.hello(), b"\4\0"))),
    ("longer than allowed", lambda c: c.send(record(HANDSHAKE, bytes(16641)))),
    ("empty", lambda c: c.send(record(HANDSHAKE, b"") * 100)),
    ("another message", lambda c: c.put(HANDSHAKE, message(tls13.FINISHED, bytes(32)))),
    ("a server's hello", lambda c: c.put(HANDSHAKE, message(tls13.SERVER_HELLO, c.hello()[4:]))),
    ("HTTP", lambda c: c.send(b"GET / HTTP/1.0\r\n\r\n")),
])
cases({DECODE, ILLEGAL, VERSION, FAILURE, MISSING, NO_PROTOCOL, NAME}, "hello", [
    ("bytes behind its end", hello_field(tail=b"\0")),
    ("session id too long", hello_field(session=bytes(33))),
    ("no suites", hello_field(suites=b"")),
    ("odd length of suites", hello_field(suites=b"\x13\x01\x13")),
    ("unknown suites", hello_field(suites=b"\x13\x77\x0a\x0a")),
    ("no compression", hello_field(compression=b"")),
    ("compression", hello_field(compression=b"\1")),
    ("no versions that we have", hello_with(tls13.VERSIONS, v8(b"\x03\x02\x03\x01"))),
    ("empty versions", hello_with(tls13.VERSIONS, v8(b""))),
    ("odd length of versions", hello_with(tls13.VERSIONS, v8(b"\x03\x03\x03"))),
    ("TLS 1.0 of old", lambda c: c.put(HANDSHAKE, c.hello({}, version=b"\x03\x01", suites=b"\xc0\x2b\x00\x2f"))),
    ("no groups", hello_with(tls13.GROUPS, None)),
    ("empty groups", hello_with(tls13.GROUPS, v16(b""))),
    ("unknown groups", hello_with(tls13.GROUPS, v16(b"\x7f\x7f"))),
    ("no signature algorithms", hello_with(tls13.SIGNATURES, None)),
    ("empty signature algorithms", hello_with(tls13.SIGNATURES, v16(b""))),
    ("signature algorithms that we have not", hello_with(tls13.SIGNATURES, v16(b"\x02\x02"))),
    ("no key share", hello_with(tls13.SHARES, None)),
    ("key share of no length", hello_with(tls13.SHARES, v16(tls13.X25519 + v16(b"")))),
    ("key share cut", hello_with(tls13.SHARES, v16(tls13.X25519 + v16(bytes(31))))),
    ("key share of order one", hello_with(tls13.SHARES, v16(tls13.X25519 + v16(bytes(32))))),
    ("key share twice", lambda c: hello_with(tls13.SHARES, v16((tls13.X25519 + v16(c.public)) * 2))(c)),
    ("key share of a group that is not listed", hello_with(tls13.GROUPS, v16(b"\0\x17"))),
    ("an unknown extension twice", lambda c: c.put(HANDSHAKE, c.hello([*c.extensions().items(), (0x1234, b""), (0x1234, b"")]))),
    ("version of SSL 3.0", hello_field(version=b"\3\0")),
    ("version of SSL 2.0", hello_field(version=b"\0\2")),
    ("key share with a wrong length", hello_with(tls13.SHARES, b"\xff\xff" + tls13.X25519)),
    ("SNI empty", hello_with(tls13.SNI, b"")),
    ("SNI of no name", hello_with(tls13.SNI, v16(b""))),
    ("SNI with an empty name", hello_with(tls13.SNI, v16(b"\0" + v16(b"")))),
    ("SNI with a zero byte", hello_with(tls13.SNI, v16(b"\0" + v16(b"local\0host")))),
    ("SNI of another type", hello_with(tls13.SNI, v16(b"\1" + v16(b"localhost")))),
    ("SNI twice", hello_with(tls13.SNI, v16((b"\0" + v16(b"localhost")) * 2))),
    ("SNI with a colour of terminals", hello_with(tls13.SNI, v16(b"\0" + v16(b"\x1b[31mlocalhost")))),
    ("SNI in UTF-8", hello_with(tls13.SNI, v16(b"\0" + v16("l\xf6calhost".encode())))),
    ("SNI longer than its extension", hello_with(tls13.SNI, b"\x01\x00\0" + v16(b"localhost"))),
    ("SNI longer than a name", hello_with(tls13.SNI, v16(b"\0" + v16(b"a" * 300)))),
    ("ALPN empty", hello_with(tls13.ALPN, v16(b""))),
    ("ALPN with an empty name", hello_with(tls13.ALPN, v16(b"\0\2h2"))),
    ("ALPN cut", hello_with(tls13.ALPN, v16(b"\7h2"))),
    ("ALPN with bytes behind", hello_with(tls13.ALPN, v16(b"\2h2") + b"\0")),
    ("ALPN without one of ours", hello_with(tls13.ALPN, v16(b"\3foo"))),
    ("PSK that is not last", lambda c: c.put(HANDSHAKE, c.hello(
        [(tls13.PSK, v16(v16(b"ticket") + bytes(4)) + v16(v8(bytes(32))))] + list(c.extensions().items())))),
    ("PSK cut", hello_with(tls13.PSK, v16(v16(b"ticket") + bytes(4)))),
    ("PSK with fewer binders", hello_with(tls13.PSK, v16((v16(b"ticket") + bytes(4)) * 2) + v16(v8(bytes(32))))),
] + [(f"extension {kind} twice", functools.partial(lambda kind, c: c.put(HANDSHAKE, c.hello(
        list(c.extensions().items()) + [(kind, c.extensions().get(kind, b""))])), kind))
     for kind in (tls13.SNI, tls13.GROUPS, tls13.VERSIONS, tls13.SHARES)
] + [("extension %d of no length" % kind, hello_with(kind, b""))
     for kind in (tls13.GROUPS, tls13.SIGNATURES, tls13.VERSIONS, tls13.SHARES, tls13.PSK_MODES)])


@case(DECODE, ILLEGAL)
def hello_of_sixteen_megabytes(c):
    c.put(HANDSHAKE, message(1, bytes(16000), length=0xffffff))


@case(UNEXPECTED, DECODE, "closed")
def a_hello_that_the_end_of_which_never_comes_but_another_record(c):
    hello = c.hello()
    c.send(record(HANDSHAKE, hello[:40]) + record(ALERT, b"\1\0") + record(DATA, b"x"))


@case(UNEXPECTED)
def two_hellos(c):
    c.put(HANDSHAKE, c.hello() + c.hello())


# ---- behind the server's flight ----

def after_flight(f):
    @functools.wraps(f)
    def run(c):
        c.say(c.hello())
        c.server_flight()
        f(c)
    return run


cases({UNEXPECTED, DECODE, BAD_MAC, ILLEGAL, OVERFLOW, DECRYPT}, "in place of the client's finished", [
    ("nothing but data", after_flight(lambda c: c.put(DATA, b"early"))),
    ("a plain one", after_flight(lambda c: c.send(record(HANDSHAKE, c.write_keys.finished(c.transcript))))),
    ("a wrong one", after_flight(lambda c: c.put(HANDSHAKE, message(tls13.FINISHED, bytes(32))))),
    ("a short one", after_flight(lambda c: c.put(HANDSHAKE, message(tls13.FINISHED, c.write_keys.finished(c.transcript)[4:-1])))),
    ("a long one", after_flight(lambda c: c.put(HANDSHAKE, message(tls13.FINISHED, c.write_keys.finished(c.transcript)[4:] + b"\0")))),
    ("an empty one", after_flight(lambda c: c.put(HANDSHAKE, message(tls13.FINISHED, b"")))),
    ("two", after_flight(lambda c: c.put(HANDSHAKE, c.write_keys.finished(c.transcript) * 2))),
    ("one and the beginning of another", after_flight(lambda c: c.put(HANDSHAKE, c.write_keys.finished(c.transcript) + b"\x14\0"))),
    ("another hello", after_flight(lambda c: c.put(HANDSHAKE, c.hello()))),
    ("a certificate nobody asked for", after_flight(lambda c: c.put(HANDSHAKE, message(tls13.CERTIFICATE, b"\0" + v24(b""))))),
    ("key update", after_flight(lambda c: c.put(HANDSHAKE, message(tls13.KEY_UPDATE, b"\0")))),
    ("end of early data", after_flight(lambda c: c.put(HANDSHAKE, message(tls13.END_OF_EARLY, b"")))),
    ("an unknown message", after_flight(lambda c: c.put(HANDSHAKE, message(99, b"x")))),
    ("a record of noise", after_flight(lambda c: c.send(record(DATA, bytes(64))))),
    ("a record with no type", after_flight(lambda c: c.send(c.write_keys.seal(None, b"", 20)))),
    ("a record with another type", after_flight(lambda c: c.put(HEARTBEAT, b"\1\0\0"))),
    ("an encrypted CCS", after_flight(lambda c: c.put(CCS, b"\1"))),
    ("a CCS of two bytes", after_flight(lambda c: c.send(record(CCS, b"\1\1")))),
    ("a CCS of another byte", after_flight(lambda c: c.send(record(CCS, b"\2")))),
    ("forty CCS", after_flight(lambda c: c.send(record(CCS, b"\1") * 40))),
    ("empty handshake records", after_flight(lambda c: [c.put(HANDSHAKE, b"") for _ in range(100)])),
    ("a record that is too long", after_flight(lambda c: c.send(record(DATA, bytes(16641))))),
    ("plain bytes that are too long", after_flight(lambda c: c.put(HANDSHAKE, bytes(16385)))),
    ("half of it, then data", after_flight(
        lambda c: (c.put(HANDSHAKE, c.write_keys.finished(c.transcript)[:20]), c.put(DATA, b"x")))),
])


@case(BAD_MAC)
@after_flight
def each_bit_of_the_tag(c):
    sealed = bytearray(c.write_keys.seal(HANDSHAKE, c.write_keys.finished(c.transcript)))
    sealed[-1] ^= 1
    c.send(bytes(sealed))


# ---- after the handshake ----

def after_handshake(f):
    @functools.wraps(f)
    def run(c):
        c.handshake()
        f(c)
    return run


cases({UNEXPECTED, DECODE, BAD_MAC, ILLEGAL, OVERFLOW, DECRYPT}, "after the handshake", [
    ("renegotiation", after_handshake(lambda c: c.put(HANDSHAKE, c.hello()))),
    ("a hello in plain", after_handshake(lambda c: c.send(record(HANDSHAKE, c.hello())))),
    ("data in plain", after_handshake(lambda c: c.send(record(DATA, b"plain")))),
    ("a CCS", after_handshake(lambda c: c.send(record(CCS, b"\1")))),
    ("a heartbeat", after_handshake(lambda c: c.put(HEARTBEAT, b"\1\x40\0"))),
    ("a ticket from a client", after_handshake(lambda c: c.put(HANDSHAKE, message(tls13.TICKET, bytes(20))))),
    ("finished again", after_handshake(lambda c: c.put(HANDSHAKE, message(tls13.FINISHED, bytes(32))))),
    ("a request for a certificate", after_handshake(lambda c: c.put(HANDSHAKE, message(tls13.REQUEST, b"\0\0\0")))),
    ("key update that asks for something else", after_handshake(lambda c: c.put(HANDSHAKE, message(tls13.KEY_UPDATE, b"\2")))),
    ("key update of no length", after_handshake(lambda c: c.put(HANDSHAKE, message(tls13.KEY_UPDATE, b"")))),
    ("key update of two bytes", after_handshake(lambda c: c.put(HANDSHAKE, message(tls13.KEY_UPDATE, b"\0\0")))),
    ("key update with the old keys afterwards", after_handshake(
        lambda c: (c.put(HANDSHAKE, message(tls13.KEY_UPDATE, b"\0")), c.put(DATA, b"x")))),
    ("an unknown alert type", after_handshake(lambda c: c.put(ALERT, b"\7\7"))),
    ("an alert of one byte", after_handshake(lambda c: c.put(ALERT, b"\1"))),
    ("two alerts in one record", after_handshake(lambda c: c.put(ALERT, b"\1\5\1\5"))),
    ("a record that is too long", after_handshake(lambda c: c.put(DATA, bytes(16385)))),
    ("a record of nothing but padding", after_handshake(lambda c: c.send(c.write_keys.seal(None, b"", 100)))),
    ("a changed record", after_handshake(lambda c: c.send(c.write_keys.seal(DATA, b"x")[:-1] + b"\0"))),
    ("a record twice", after_handshake(lambda c: c.send(c.write_keys.seal(DATA, b"") * 2))),
])


@case(UNEXPECTED, ILLEGAL)
@after_handshake
def a_flood_of_key_updates(c):
    for _ in range(200):
        c.put(HANDSHAKE, message(tls13.KEY_UPDATE, b"\0"))
        c.write_keys = c.write_keys.next()


@case(UNEXPECTED, ILLEGAL)
@after_handshake
def a_flood_of_empty_records(c):
    for _ in range(100):
        c.put(DATA, b"")


@case(UNEXPECTED, ILLEGAL)
@after_handshake
def a_flood_of_warnings(c):
    for _ in range(100):
        c.put(ALERT, b"\1\x5a")


# ---- TLS 1.2, as far as it goes without keys ----

def tls12(extensions=(), **fields):
    pairs = [(tls13.SNI, v16(b"\0" + v16(b"localhost"))), (tls13.GROUPS, v16(b"\0\x17")), (11, b"\1\0"),
             (tls13.SIGNATURES, v16(b"\x04\x03")), (23, b""), (0xff01, b"\0"), *extensions]
    return lambda c: c.hello(pairs, session=b"", suites=fields.pop("suites", b"\xc0\x2b"), **fields)


def after_hello_done(f):
    def run(c):
        c.say(tls12()(c))
        while c.hear()[0] != 14:
            pass
        f(c)
    return run


POINT = b"\4" + bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
                              "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
EXCHANGE = message(16, v8(POINT))

cases({UNEXPECTED, DECODE, BAD_MAC, ILLEGAL, DECRYPT, FAILURE, OVERFLOW, INTERNAL, "closed"}, "TLS 1.2, in place of the key exchange", [
    ("CCS", after_hello_done(lambda c: c.send(record(CCS, b"\1")))),
    ("finished", after_hello_done(lambda c: c.put(HANDSHAKE, message(20, bytes(12))))),
    ("data", after_hello_done(lambda c: c.put(DATA, b"x"))),
    ("another hello", after_hello_done(lambda c: c.put(HANDSHAKE, c.hello()))),
    ("a certificate nobody asked for", after_hello_done(lambda c: c.put(HANDSHAKE, message(11, v24(b""))))),
    ("a point that is not on the curve", after_hello_done(lambda c: c.put(HANDSHAKE, message(16, v8(POINT[:-1] + b"\0"))))),
    ("the point at infinity", after_hello_done(lambda c: c.put(HANDSHAKE, message(16, v8(b"\0"))))),
    ("a compressed point", after_hello_done(lambda c: c.put(HANDSHAKE, message(16, v8(b"\3" + POINT[1:33]))))),
    ("a short point", after_hello_done(lambda c: c.put(HANDSHAKE, message(16, v8(POINT[:-1]))))),
    ("no point", after_hello_done(lambda c: c.put(HANDSHAKE, message(16, b"")))),
    ("a wrong length", after_hello_done(lambda c: c.put(HANDSHAKE, message(16, b"\xff" + POINT)))),
    ("bytes behind", after_hello_done(lambda c: c.put(HANDSHAKE, message(16, v8(POINT) + b"\0")))),
    ("it, then finished in plain", after_hello_done(lambda c: c.put(HANDSHAKE, EXCHANGE + message(20, bytes(12))))),
    ("it, then CCS and noise", after_hello_done(lambda c: c.send(
        record(HANDSHAKE, EXCHANGE) + record(CCS, b"\1") + record(HANDSHAKE, bytes(40))))),
    ("it, then a CCS of two bytes", after_hello_done(lambda c: c.send(record(HANDSHAKE, EXCHANGE) + record(CCS, b"\1\1")))),
    ("it twice", after_hello_done(lambda c: c.put(HANDSHAKE, EXCHANGE * 2))),
    ("it with a CCS in its middle", after_hello_done(lambda c: c.send(
        record(HANDSHAKE, EXCHANGE[:20]) + record(CCS, b"\1") + record(HANDSHAKE, EXCHANGE[20:])))),
    ("a handshake of empty records", after_hello_done(lambda c: c.send(record(HANDSHAKE, b"") * 100))),
])
cases({86, ILLEGAL, DECODE, FAILURE, 10, VERSION}, "TLS 1.2 hello", [
    ("fallback although 1.3 is there", lambda c: c.put(HANDSHAKE, tls12(suites=b"\xc0\x2b\x56\x00")(c))),
    ("renegotiation info in the first", lambda c: c.put(HANDSHAKE, c.hello([(0xff01, b"\1x")], suites=b"\xc0\x2b"))),
    ("extended master secret with a body", lambda c: c.put(HANDSHAKE, c.hello([(23, b"x")], suites=b"\xc0\x2b"))),
    ("no suite with a key exchange of ours", lambda c: c.put(HANDSHAKE, tls12(suites=b"\x00\x2f\x00\x9c\x00\x9e")(c))),
])


@case("data")
@after_handshake
def key_update_is_fine(c):
    c.put(HANDSHAKE, message(tls13.KEY_UPDATE, b"\0"))
    c.write_keys = c.write_keys.next()
    c.put(DATA, b"x")


@case("data")
@after_handshake
def padding_is_fine(c):
    c.put(DATA, b"x", padding=1000)


@case("data")
def a_hello_in_pieces_is_fine(c):
    hello = c.hello()
    c.transcript += hello
    for i in range(0, len(hello), 7):
        c.put(HANDSHAKE, hello[i:i + 7])
    c.server_flight()
    c.finish()
    c.put(DATA, b"x")


@case("data")
def unknown_extensions_suites_and_versions_are_fine(c):
    extensions = {0x0a0a: b"", **c.extensions(), 0x1234: bytes(1000), tls13.VERSIONS: v8(b"\x7f\x1c\x0a\x0a\x03\x04")}
    c.say(c.hello(extensions, suites=b"\x0a\x0a\x13\x01\xfe\xed"))
    c.server_flight()
    c.finish()
    c.put(DATA, b"x")


@case("data")
def a_ticket_of_garbage_is_a_full_handshake(c):
    extensions = {**c.extensions(), tls13.PSK: v16(v16(os.urandom(180)) + bytes(4)) + v16(v8(bytes(32)))}
    c.say(c.hello(extensions))
    c.server_flight()
    c.finish()
    c.put(DATA, b"x")


@case("data")
def early_data_is_skipped(c):
    extensions = {**c.extensions(), tls13.EARLY_DATA: b"", tls13.PSK: v16(v16(os.urandom(180)) + bytes(4)) + v16(v8(bytes(32)))}
    c.say(c.hello(extensions))
    c.send(record(DATA, os.urandom(300)))
    c.server_flight()
    c.finish()
    c.put(DATA, b"x")


# ---- as a client of a server that wants a certificate ----

CERTIFICATE_CASES = {
    "none": ({REQUIRED}, lambda c: message(tls13.CERTIFICATE, v8(b"") + v24(b""))),
    "garbage": ({DECODE, BAD_CERT, 43, 46}, lambda c: message(tls13.CERTIFICATE, v8(b"") + v24(v24(b"garbage") + v16(b"")))),
    "an empty one": ({DECODE, BAD_CERT}, lambda c: message(tls13.CERTIFICATE, v8(b"") + v24(v24(b"") + v16(b"")))),
    "a wrong length": ({DECODE}, lambda c: message(tls13.CERTIFICATE, v8(b"") + b"\xff\xff\xff")),
    "another context": ({DECODE, ILLEGAL}, lambda c: message(tls13.CERTIFICATE, v8(b"other") + v24(b""))),
    "finished": ({UNEXPECTED}, lambda c: c.write_keys.finished(c.transcript)),
    "a verification of nothing": ({UNEXPECTED}, lambda c: message(tls13.VERIFY, b"\x04\x03" + v16(bytes(70)))),
}

# ---- as a server: what our client must make of it ----

SERVER_CASES = []


def server_case(*expected):
    def add(f):
        SERVER_CASES.append((f.__name__.replace("_", " "), set(expected), f))
        return f
    return add


def server_hello(**fields):
    def run(s):
        s.listen()
        s.put(HANDSHAKE, s.hello(**{k: v(s) if callable(v) else v for k, v in fields.items()}))
    return run


def share(s):
    return (tls13.SHARES, tls13.X25519 + v16(s.public))


V13 = (tls13.VERSIONS, b"\x03\x04")
for title, expected, function in [
        ("suite that was not offered", {ILLEGAL}, server_hello(suite=b"\x13\x05")),
        ("suite of TLS 1.2", {ILLEGAL}, server_hello(suite=b"\xc0\x2b")),
        ("compression", {ILLEGAL, DECODE}, server_hello(compression=b"\1")),
        ("another session id", {ILLEGAL, DECODE}, server_hello(session=bytes(32))),
        ("session id that is too long", {DECODE, ILLEGAL}, server_hello(session=bytes(33))),
        ("version that was not offered", {VERSION, ILLEGAL}, server_hello(extensions=lambda s: [share(s), (tls13.VERSIONS, b"\x03\x02")])),
        ("TLS 1.1", {VERSION}, server_hello(extensions=[], version=b"\x03\x02", suite=b"\xc0\x2b")),
        ("downgrade to 1.2", {ILLEGAL}, server_hello(extensions=[(23, b""), (0xff01, b"\0")], suite=b"\xc0\x2b",
                                                     random=bytes(24) + b"DOWNGRD\1")),
        ("no key share", {MISSING, ILLEGAL, DECODE}, server_hello(extensions=[V13])),
        ("key share of another group", {ILLEGAL}, server_hello(extensions=[V13, (tls13.SHARES, b"\0\x18" + v16(bytes(97)))])),
        ("key share of order one", {ILLEGAL, INTERNAL}, server_hello(extensions=[V13, (tls13.SHARES, tls13.X25519 + v16(bytes(32)))])),
        ("key share cut", {DECODE, INTERNAL}, server_hello(extensions=[V13, (tls13.SHARES, tls13.X25519 + v16(bytes(31)))])),
        ("extension twice", {ILLEGAL, DECODE}, server_hello(extensions=lambda s: [V13, V13, share(s)])),
        ("extension nobody asked for", {UNSUPPORTED, ILLEGAL, DECODE}, server_hello(extensions=lambda s: [V13, share(s), (0x1234, b"")])),
        ("a ticket nobody has", {UNSUPPORTED, ILLEGAL, DECODE}, server_hello(extensions=lambda s: [V13, share(s), (tls13.PSK, b"\0\0")])),
        ("retry for the group that is there", {ILLEGAL}, server_hello(random=tls13.RETRY, extensions=[V13, (tls13.SHARES, tls13.X25519)])),
        ("retry for nothing", {ILLEGAL, DECODE}, server_hello(random=tls13.RETRY, extensions=[V13])),
        ("a client's hello", {UNEXPECTED}, lambda s: (s.listen(), s.put(HANDSHAKE, Client(s.sock).hello()))),
        ("certificate at once", {UNEXPECTED}, lambda s: (s.listen(), s.put(HANDSHAKE, s.certificate()))),
        ("data at once", {UNEXPECTED, DECODE, BAD_MAC}, lambda s: (s.listen(), s.put(DATA, b"hello"))),
        ("alert cut", {DECODE, UNEXPECTED, ILLEGAL, "closed"}, lambda s: (s.listen(), s.put(ALERT, b"\2"), s.put(ALERT, b"\2"))),
        ("not TLS", {DECODE, UNEXPECTED, VERSION, ILLEGAL, "closed"}, lambda s: (s.listen(), s.send(b"220 mail.example.com ESMTP\r\n"))),
]:
    SERVER_CASES.append((title, expected, function))


def after_greeting(*flight, extensions=()):
    """Encrypted messages behind the ServerHello: each a function of the server, with what stands before in its transcript."""
    def run(s):
        s.greet()
        s.say(s.encrypted_extensions(extensions))
        for part in flight:
            s.say(part(s))
    return run


cert, verify = Server.certificate, Server.verify


def finished(s):
    return s.write_keys.finished(s.transcript)


for title, expected, function in [
        ("no certificate", {UNEXPECTED, REQUIRED, DECODE}, after_greeting(finished)),
        ("no verification", {UNEXPECTED}, after_greeting(cert, finished)),
        ("verification before the certificate", {UNEXPECTED}, after_greeting(verify)),
        ("certificate twice", {UNEXPECTED}, after_greeting(cert, cert)),
        ("empty certificate", {DECODE, REQUIRED}, after_greeting(lambda s: message(tls13.CERTIFICATE, b"\0" + v24(b"")))),
        ("certificate of garbage", {DECODE, BAD_CERT}, after_greeting(
            lambda s: message(tls13.CERTIFICATE, b"\0" + v24(v24(b"garbage") + v16(b""))))),
        ("certificate with bytes behind", {DECODE}, after_greeting(lambda s: message(tls13.CERTIFICATE, cert(s)[4:] + b"\0"))),
        ("signature over something else", {DECRYPT}, after_greeting(cert, lambda s: s.verify(b"else"), finished)),
        ("signature of a client", {DECRYPT}, after_greeting(cert, lambda s: s.verify(context=b"TLS 1.3, client CertificateVerify"))),
        ("signature algorithm that was not offered", {ILLEGAL}, after_greeting(cert, lambda s: s.verify(algorithm=b"\x02\x03"))),
        ("signature algorithm of another key", {ILLEGAL, DECRYPT}, after_greeting(cert, lambda s: s.verify(algorithm=b"\x08\x04"))),
        ("signature cut", {DECODE, DECRYPT}, after_greeting(cert, lambda s: message(tls13.VERIFY, b"\x04\x03" + v16(verify(s)[8:-4])))),
        ("finished wrong", {DECRYPT}, after_greeting(cert, verify, lambda s: message(tls13.FINISHED, bytes(32)))),
        ("finished short", {DECODE, DECRYPT}, after_greeting(cert, verify, lambda s: message(tls13.FINISHED, finished(s)[4:-1]))),
        ("ALPN that was not offered", {ILLEGAL, UNSUPPORTED, NO_PROTOCOL}, after_greeting(
            cert, verify, finished, extensions=[(tls13.ALPN, v16(b"\3foo"))])),
        ("ALPN with two names", {ILLEGAL, DECODE}, after_greeting(cert, verify, finished, extensions=[(tls13.ALPN, v16(b"\2h2\2h2"))])),
        ("encrypted extension nobody asked for", {UNSUPPORTED}, after_greeting(cert, verify, finished, extensions=[(0x1234, b"")])),
        ("early data that nobody sent", {UNSUPPORTED, ILLEGAL}, after_greeting(cert, verify, finished, extensions=[(tls13.EARLY_DATA, b"")])),
        ("key share among the encrypted", {UNSUPPORTED, ILLEGAL}, after_greeting(cert, verify, finished, extensions=[(tls13.SHARES, b"")])),
        ("data before finished", {UNEXPECTED}, lambda s: (after_greeting(cert, verify)(s), s.put(DATA, b"too early"))),
]:
    SERVER_CASES.append((title, expected, function))


def served(s):
    after_greeting(cert, verify, finished)(s)
    s.after, s.write_keys = s.traffic_keys()
    s.hear()
    s.read_keys = s.after


class Conformance(harness.Case):
    maxDiff = None

    def setUp(self):
        super().setUp()
        self.need("openssl")
        self.pki = pki.Pki(os.path.join(self.directory, "pki"))
        self.cert, self.key = self.pki.issue("localhost")

    def verdict(self, peer, send):
        """An alert's number, "closed", "data"; "accepted": a hello got a whole answer."""
        try:
            send(peer)
            if isinstance(peer, Client) and not peer.transcript:
                peer.transcript = peer.last_hello
                peer.server_flight()
                return "accepted"
            return peer.verdict()
        except EOFError:
            return "closed"
        except tls13.Ended as e:
            return e.args[0]

    def compare(self, wrong, title, got, expected):
        if got not in expected:
            wrong.append(f"{title}: {got}, expected {sorted(map(str, expected))}")

    def test_clients(self):
        port, mutual = harness.free_port(), harness.free_port()
        self.cosockd(SERVER, [port, self.cert, self.key, mutual, self.pki.ca], [port, mutual])
        wrong = []
        for title, expected, send in CLIENT_CASES:
            with self.connect(port) as s:
                self.compare(wrong, title, self.verdict(Client(s), send), expected)
        for title, (expected, answer) in CERTIFICATE_CASES.items():
            def show(c, answer=answer):
                c.say(c.hello())
                c.server_flight()
                c.say(answer(c))
                c.finish()

            with self.connect(mutual) as s:
                self.compare(wrong, f"client certificate: {title}", self.verdict(Client(s), show), expected)
        self.assertEqual(wrong, [])
        with self.connect(port) as s:
            client = Client(s)
            client.handshake()
            client.put(DATA, b"x")
            self.assertEqual(client.verdict(), "data")

    def test_hellos_with_each_byte_changed_and_cut(self):
        port = harness.free_port()
        self.cosockd(SERVER, [port, self.cert, self.key, harness.free_port(), self.pki.ca], [port])
        with self.connect(port) as s:
            hello = Client(s).hello()
        for at in range(0, len(hello), 1 if not harness.SANITIZER else 5):
            for changed in (hello[:at] + bytes([hello[at] ^ 0xff]) + hello[at + 1:],
                            hello[:1] + struct.pack(">I", max(0, at - 4))[1:] + hello[4:at]):
                with self.connect(port) as s:
                    s.sendall(record(HANDSHAKE, changed))
                    s.shutdown(1)
                    harness.read_all(s)  # an alert or an answer, and the end

    def test_servers(self):
        port = harness.free_port()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.cosockd(CLIENT, [port, self.pki.ca, listener.getsockname()[1]], [port])
            wrong = []
            for title, expected, send in SERVER_CASES + [("as it should be", {"ok"}, None)]:
                with self.connect(port) as asked:
                    s, _ = listener.accept()
                    with s:
                        s.settimeout(20)
                        peer = Server(s, self.cert, self.key)
                        if send:
                            self.compare(wrong, title, self.verdict(peer, send), expected)
                        else:
                            served(peer)
                            peer.put(DATA, b"all is well")
                    said = harness.read_all(asked).decode()
                    good = said == "all is well" if send is None else said in ("sslhandshake", "sslalertrecv", "sslnottrusted",
                                                                             "invalidresponse", "socketclosed")
                    if not good:
                        wrong.append(f"{title}: the script was told {said!r}")
            self.assertEqual(wrong, [])


if __name__ == "__main__":
    harness.main()
