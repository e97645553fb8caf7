"""Requests to a server of pages, for the tests that have one at `port`, or at `tls` with TLS."""

import base64
import http.client
import ssl

import harness


class Client(harness.Case):
    def get(self, path, method="GET", body=None, headers=None, tls=False, user=None):
        """(status, headers, body) of one request on a connection of its own. body: bytes, or what gives pieces of it, which go
        out as chunks; user: "name:password"."""
        if tls:
            c = http.client.HTTPSConnection("127.0.0.1", self.tls, timeout=20 * harness.PATIENCE,
                                            context=ssl._create_unverified_context())
        else:
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20 * harness.PATIENCE)
        try:
            c.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                c.putheader(name, value)
            if user:
                c.putheader("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
            chunked = body is not None and not isinstance(body, bytes)
            if chunked:
                c.putheader("Transfer-Encoding", "chunked")
            elif body is not None:
                c.putheader("Content-Length", str(len(body)))
            c.endheaders(body, encode_chunked=chunked)
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def text(self, path, **options):
        status, _, body = self.get(path, **options)
        self.assertEqual(status, 200, body)
        return body.decode()
