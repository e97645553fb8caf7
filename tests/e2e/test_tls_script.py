"""tls.lua: tunnels with TLS on either side, between any two of TCP, TLS and Unix sockets."""

import contextlib
import os
import socket
import ssl
import subprocess
import threading

import harness
import pki


def client_context(ca, **options):
    context = ssl.create_default_context(cafile=ca)
    for name, value in options.items():
        setattr(context, name, value)
    return context


class Front:
    """How a client reaches the daemon."""

    def __init__(self, case, kind):
        self.case, self.kind = case, kind
        self.port = harness.free_port()
        self.path = os.path.join(case.directory, f"front-{self.port}.sock")
        self.listen = f"unix:{self.path}" if kind == "unix" else f"127.0.0.1:{self.port}"

    def connect(self, context=None):
        if self.kind == "unix":
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(20 * harness.SLOW)
            s.connect(self.path)
        else:
            s = self.case.connect(self.port)
        if self.kind == "tls":
            s = (context or client_context(self.case.pki.ca)).wrap_socket(s, server_hostname="front.example")
        self.case.addCleanup(s.close)
        return s

    def ready(self, daemon):
        if self.kind == "unix":
            harness.until(lambda: harness.listening_at(self.path), 10, "the socket")
        else:
            daemon.wait_listening([self.port])


class TlsCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.need("openssl")
        self.pki = pki.Pki(os.path.join(self.directory, "pki"))
        self.cert, self.key = self.pki.issue("front.example")

    def pair(self, cert=None, key=None):
        return f'cert = "{cert or self.cert}", key = "{key or self.key}"'

    def tls_origin(self, handler, name="back.example", **options):
        """A TLS server of Python's; its port."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.pki.issue(name))
        for option, value in options.items():
            setattr(context, option, value)

        def serve(connection):
            try:
                with context.wrap_socket(connection, server_side=True) as s:
                    handler(s)
            except (ssl.SSLError, ConnectionError):
                pass

        return self.server(serve).port

    def tunnel(self, front, upstream, tls=True, extra="", settings=""):
        """tls.lua with one upstream; tls: words of its block besides the usual pair, or False. No TLS at all: proxy.lua."""
        words = "" if tls is False else f"tls = {{ {self.pair()}, {'' if tls is True else tls} }}, "
        script = "tls.lua" if words or "upstream_tls" in extra else "proxy.lua"
        d = self.service(f'{settings}\nservice "tls" {{ script = "{script}", listen = "{front.listen}", '
                         f'upstreams = {{ "{upstream}" }}, {words}{extra} }}\n')
        front.ready(d)
        return d


class AnyTwoTest(TlsCase):
    """4 MB through each pair, both ways at once, and the end of one side at the other."""

    def exchange(self, front_kind, back_kind):
        front = Front(self, front_kind)
        extra = ""
        if back_kind == "tls":
            upstream = f"127.0.0.1:{self.tls_origin(harness.echo)}"
            extra = f'upstream_tls = {{ ca = "{self.pki.ca}", host = "back.example" }}'
        elif back_kind == "unix":
            path = os.path.join(self.directory, "back.sock")
            upstream = f"unix:{path}"
            self.server(harness.echo, path=path)
        else:
            upstream = f"127.0.0.1:{self.server(harness.echo).port}"
        self.tunnel(front, upstream, front_kind == "tls", extra)
        data = harness.noise(4_000_000 // harness.SLOW)
        with front.connect() as s:
            # One thread writes, this one reads: a TLS object of Python's is for one at a time, so the pieces are
            # small enough to be in flight whole.
            got = b""
            for at in range(0, len(data), 100_000):
                piece = data[at:at + 100_000]
                s.sendall(piece)
                got += harness.read_exactly(s, len(piece))
            self.assertEqual(got, data)

    def test_tls_to_tcp(self):
        self.exchange("tls", "tcp")

    def test_tls_to_tls(self):
        self.exchange("tls", "tls")

    def test_tls_to_unix(self):
        self.exchange("tls", "unix")

    def test_tcp_to_tls(self):
        self.exchange("tcp", "tls")

    def test_unix_to_tls(self):
        self.exchange("unix", "tls")

    def test_tcp_to_unix(self):
        self.exchange("tcp", "unix")

    def test_unix_to_tcp(self):
        self.exchange("unix", "tcp")


class TerminateTest(TlsCase):
    def front(self, tls=True, handler=harness.echo, **options):
        front = Front(self, "tls")
        self.daemon = self.tunnel(front, f"127.0.0.1:{self.server(handler).port}", tls, **options)
        return front

    def assert_echo_on(self, s):
        s.sendall(b"hello")
        self.assertEqual(harness.read_exactly(s, 5), b"hello")

    def test_both_versions(self):
        front = self.front()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with front.connect(client_context(self.pki.ca, maximum_version=version)) as s:
                self.assert_echo_on(s)
                self.assertEqual(s.version(), version.name.replace("_", "."))

    def test_the_certificate_for_the_name(self):
        rsa, ec = self.pki.issue("*.b.example", key="rsa"), self.pki.issue("c.example")
        more = f"{{ {self.pair(*rsa)} }}, {{ {self.pair(*ec)} }}"
        fronts = [Front(self, "tls") for _ in "ab"]
        upstream = f'upstreams = "127.0.0.1:{self.server(harness.echo).port}"'
        daemon = self.service(f"""
            service "pair" {{ script = "tls.lua", listen = "{fronts[0].listen}", {upstream}, tls = {{ {self.pair()}, certs = {{ {more} }} }} }}
            service "list" {{ script = "tls.lua", listen = "{fronts[1].listen}", {upstream}, tls = {{ certs = {{ {more} }} }} }}
        """)
        for front, names in zip(fronts, (("front.example", "x.b.example", "c.example"), ("x.b.example", "c.example"))):
            front.ready(daemon)
            for name in names:
                with self.connect(front.port) as raw:
                    with client_context(self.pki.ca).wrap_socket(raw, server_hostname=name) as s:  # checks the name
                        self.assert_echo_on(s)

    def test_clients_must_show_a_certificate(self):
        front = self.front(f'client_ca = "{self.pki.ca}"')
        stranger = pki.Pki(os.path.join(self.directory, "stranger"))
        for pair, good in ((self.pki.issue("client.example"), True), (None, False),
                           (stranger.issue("client.example"), False)):
            context = client_context(self.pki.ca)
            if pair:
                context.load_cert_chain(*pair)
            try:
                with front.connect(context) as s:
                    self.assert_echo_on(s)
                    self.assertTrue(good)
            except (ssl.SSLError, ConnectionError, EOFError):
                self.assertFalse(good)

    def test_a_revoked_client(self):
        """...is refused after the reload that brings the list."""
        client = self.pki.issue("client.example")
        crl = self.pki.path("crl.pem")
        self.pki.revoke(crl)
        front = self.front(f'client_ca = "{self.pki.ca}", client_crl = "{crl}"')
        context = client_context(self.pki.ca, maximum_version=ssl.TLSVersion.TLSv1_2)
        context.load_cert_chain(*client)
        with front.connect(context) as s:
            self.assert_echo_on(s)
        self.pki.revoke(crl, client[0])
        self.assertEqual(self.reload().returncode, 0)
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            front.connect(context)

    def test_half_a_handshake_reaches_no_upstream(self):
        seen = []
        front = self.front('timeout = "200ms"', handler=lambda connection: seen.append(connection.getpeername()))
        with self.connect(front.port) as silent, self.connect(front.port) as wrong:
            wrong.sendall(b"GET / HTTP/1.0\r\n\r\n")
            harness.read_all(wrong)
            harness.read_all(silent)
        self.assertEqual(seen, [])

    def test_the_end_of_each_side_arrives_at_the_other(self):
        got, heard = [], threading.Event()

        def origin(connection):
            got.append(harness.read_all(connection))
            heard.set()

        front = self.front(handler=origin)
        with front.connect() as s:
            s.sendall(b"question")
            with contextlib.suppress(ssl.SSLError, OSError):
                s.settimeout(0.1)
                s.unwrap()  # close_notify; nothing comes back yet
            self.assertTrue(heard.wait(20))
        self.assertEqual(got, [b"question"])

    def test_the_upstreams_end_is_a_clean_one(self):
        front = self.front(handler=lambda connection: connection.sendall(b"bye"))
        with self.connect(front.port) as raw:
            context = client_context(self.pki.ca)
            with context.wrap_socket(raw, server_hostname="front.example", suppress_ragged_eofs=False) as s:
                self.assertEqual(harness.read_all(s), b"bye")

    def test_a_renewed_certificate(self):
        """New connections get it after a reload, old ones go on; with a bad one nothing changes."""
        front = self.front()
        kept = front.connect()
        self.assert_echo_on(kept)
        before = kept.getpeercert()["serialNumber"]
        self.pki.issue("front.example")
        self.assertEqual(self.reload().returncode, 0)
        with front.connect() as s:
            after = s.getpeercert()["serialNumber"]
            self.assertNotEqual(after, before)
        self.assert_echo_on(kept)
        os.rename(self.key, self.key + ".away")
        run = self.reload()
        self.assertEqual(run.returncode, 1)
        self.assertIn(f"{self.key}: no such file", run.stdout + run.stderr)
        self.daemon.expect("reload refused")
        with front.connect() as s:
            self.assertEqual(s.getpeercert()["serialNumber"], after)
            self.assert_echo_on(s)
        self.assert_echo_on(kept)

    def test_a_stapled_ocsp_response(self):
        """It is read again with everything else; one that is none, or another certificate's, changes nothing."""
        response = self.pki.path("ocsp.der")

        def assert_stapled(status):
            for version in ("-tls1_2", "-tls1_3"):
                out = pki.openssl("s_client", "-connect", f"127.0.0.1:{front.port}", "-servername", "front.example",
                                  "-CAfile", self.pki.ca, "-status", version, stdin="")
                self.assertIn("OCSP Response Status: successful", out)
                self.assertIn(f"Cert Status: {status}", out)

        self.pki.ocsp(self.cert, response)
        front = self.front(f'ocsp = "{response}"')
        assert_stapled("good")
        self.pki.ocsp(self.cert, response, "revoke")
        self.assertEqual(self.reload().returncode, 0)
        assert_stapled("revoked")
        self.daemon.expect("reload refused")
        self.pki.ocsp(self.pki.issue("other.example")[0], response)
        for _ in range(2):
            run = self.reload()
            self.assertEqual(run.returncode, 1)
            self.assertIn(f"{response}: this is no successful OCSP response about the certificate of front.example",
                          run.stdout + run.stderr)
            assert_stapled("revoked")
            self.write(response, "rubbish")

    def test_credentials_of_systemd(self):
        """Where LoadCredential= puts files; the configuration asks for the folder."""
        folder = os.path.join(self.directory, "credentials")
        os.mkdir(folder)
        os.rename(self.cert, os.path.join(folder, "site.pem"))
        os.rename(self.key, os.path.join(folder, "site.key"))
        front, origin = Front(self, "tls"), self.server(harness.echo)
        d = self.service(f"""
            local dir = env "CREDENTIALS_DIRECTORY"
            service "tls" {{ script = "tls.lua", listen = "{front.listen}", upstreams = {{ "127.0.0.1:{origin.port}" }},
                             tls = {{ cert = dir .. "/site.pem", key = dir .. "/site.key" }} }}
            """, env={"CREDENTIALS_DIRECTORY": folder})
        front.ready(d)
        with front.connect() as s:
            self.assert_echo_on(s)


class TicketTest(TlsCase):
    """ticket_keys: sessions outlive the process that began them, for as long as their key is in the file."""

    def start(self):
        self.daemon = self.tunnel(self.front, f"127.0.0.1:{self.origin.port}",
                                  settings=f'ticket_keys = "{self.keys}"')

    def write_keys(self, *keys):
        self.write("tickets", "# newest first\n" + "\n".join(keys) + "\n")

    def resume(self, session=None):
        """(session, whether it was resumed) of one connection."""
        context = self.context
        with self.connect(self.front.port) as raw:
            with context.wrap_socket(raw, server_hostname="front.example", session=session) as s:
                s.sendall(b"hello")
                self.assertEqual(harness.read_exactly(s, 5), b"hello")
                return s.session, s.session_reused

    def setUp(self):
        super().setUp()
        self.front, self.origin = Front(self, "tls"), self.server(harness.echo)
        self.context = client_context(self.pki.ca, maximum_version=ssl.TLSVersion.TLSv1_2)
        self.keys = os.path.join(self.directory, "tickets")
        self.a, self.b = (pki.openssl("rand", "-base64", "48").strip() for _ in "ab")

    def test_a_session_outlives_a_restart(self):
        self.write_keys(self.a)
        self.start()
        session, resumed = self.resume()
        self.assertFalse(resumed)
        self.daemon.stop()
        self.start()
        self.assertTrue(self.resume(session)[1])

    def test_keys_change_with_a_reload(self):
        self.write_keys(self.a)
        self.start()
        old, _ = self.resume()
        self.write_keys(self.b, self.a)
        self.assertEqual(self.reload().returncode, 0)
        self.assertTrue(self.resume(old)[1])
        new, _ = self.resume()
        self.write_keys(self.b)
        self.assertEqual(self.reload().returncode, 0)
        self.assertFalse(self.resume(old)[1])
        self.assertTrue(self.resume(new)[1])

    def test_a_bad_file_changes_nothing(self):
        self.write_keys(self.a)
        self.start()
        session, _ = self.resume()
        self.daemon.expect("reload refused")
        for text, what in ((self.b + "\nrubbish", f"{self.keys}:2: this is no ticket key"),
                           (self.b[:-4], f"{self.keys}:1: this is no ticket key"),
                           ("# none", "there is no ticket key in it"),
                           ("\n".join([self.b] * 5), f"{self.keys}:5: at most 4 ticket keys")):
            self.write("tickets", text + "\n")
            run = self.reload()
            self.assertEqual(run.returncode, 1, text)
            self.assertIn(what, run.stdout + run.stderr)
            self.assertTrue(self.resume(session)[1])
        os.remove(self.keys)
        run = self.reload()
        self.assertIn(f"{self.keys}: ticket_keys: no such file or directory", run.stdout + run.stderr)
        self.assertTrue(self.resume(session)[1])
        self.assertNotIn(self.b[:20], self.daemon.log())


class OriginateTest(TlsCase):
    def through(self, port, words, env=None):
        """What comes back through a tunnel to a TLS echo on this port: nothing when it was refused."""
        front = Front(self, "tcp")
        d = self.service(f'service "tls" {{ script = "tls.lua", listen = "{front.listen}", '
                         f'upstreams = {{ "127.0.0.1:{port}" }}, upstream_tls = {{ {words} }} }}\n', env=env)
        front.ready(d)
        try:
            with front.connect() as s:
                s.sendall(b"hello")
                s.shutdown(socket.SHUT_WR)
                return harness.read_all(s)
        except ConnectionError:
            return b""
        finally:
            d.stop()

    def test_upstreams_are_verified(self):
        port = self.tls_origin(harness.echo)
        ca = f'ca = "{self.pki.ca}"'
        stranger = pki.Pki(os.path.join(self.directory, "stranger"))
        for words, good in ((f'{ca}, host = "back.example"', True), (ca, False),
                            (f'{ca}, host = "other.example"', False), ('host = "back.example"', False),
                            (f'ca = "{stranger.ca}", host = "back.example"', False), ("verify = false", True)):
            self.assertEqual(self.through(port, words), b"hello" if good else b"", words)

    def test_the_systems_authorities(self):
        port = self.tls_origin(harness.echo)
        self.assertEqual(self.through(port, 'host = "back.example"', {"SSL_CERT_FILE": self.pki.ca}), b"hello")

    def test_an_expired_upstream(self):
        context = self.pki.issue("old.example", days=-1)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*context)

        def serve(connection):
            try:
                with server.wrap_socket(connection, server_side=True) as s:
                    harness.echo(s)
            except (ssl.SSLError, ConnectionError):
                pass

        port = self.server(serve).port
        self.assertEqual(self.through(port, f'ca = "{self.pki.ca}", host = "old.example"'), b"")

    def test_a_certificate_for_the_upstream(self):
        cert, key = self.pki.issue("me.example")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.pki.issue("back.example"))
        context.load_verify_locations(self.pki.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        names = []

        def serve(connection):
            try:
                with context.wrap_socket(connection, server_side=True) as s:
                    names.append(s.getpeercert()["subject"][0][0][1])
                    harness.echo(s)
            except (ssl.SSLError, ConnectionError):
                pass

        port = self.server(serve).port
        words = f'ca = "{self.pki.ca}", host = "back.example"'
        self.assertEqual(self.through(port, words), b"")
        self.assertEqual(self.through(port, f'{words}, cert = "{cert}", key = "{key}"'), b"hello")
        self.assertEqual(names, ["me.example"])

    def test_mistakes(self):
        pair = self.pair()
        for words, what in (("tls = {}", "tls: no cert"),
                            (f"tls = {{ {pair}, client_ac = 1 }}", 'tls: unknown key "client_ac"'),
                            ("upstream_tls = { verfiy = false }", 'upstream_tls: unknown key "verfiy"'),
                            ('upstream_tls = { ca = "/none.pem" }', "/none.pem: no such file or directory"),
                            (f'tls = {{ {pair}, client_ca = "/none.pem" }}', "/none.pem: no such file or directory"),
                            (f'tls = {{ {pair}, minversion = "0.9" }}', "minversion")):
            path = self.config(f'service "tls" {{ script = "tls.lua", listen = ":1", upstreams = {{ "127.0.0.1:1" }}, '
                               f"{words} }}\n")
            run = subprocess.run([harness.COSOCKD, "-t", "-c", path], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 78, words)
            self.assertIn(what, run.stderr)


if __name__ == "__main__":
    harness.main()
