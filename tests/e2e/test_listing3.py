"""Listings 3a-c and 11 of the documents: a TLS server with the server's own certificate, and a TLS client."""

import os
import subprocess
import threading

import documents
import harness
import pki


class Listing3Test(harness.Case):
    def start(self, as_service=False):
        self.port = harness.free_port()
        text = documents.listing("listing3", **{"9443": str(self.port)})
        if as_service:
            self.write("listing.lua", text)
            self.service('service "web" { script = "listing.lua" }', [self.port])
            self.state = os.path.join(self.directory, "vm")
        else:
            self.cosockd(text, listens=[self.port], env={"XDG_STATE_HOME": self.directory})
            self.state = os.path.join(self.directory, "cosockd")

    def get(self, *options):
        return subprocess.run([self.need("curl"), "-sS", "-m", "20", *options, f"https://localhost:{self.port}/any"],
                              capture_output=True, text=True, check=False)

    def test_curl(self):
        self.start()
        self.assertEqual(self.get("-k").stdout, "Hello World!")

    def test_as_a_service_and_verified(self):
        """The certificate is for this host: who is given it trusts the server."""
        self.start(as_service=True)
        run = self.get("--cacert", os.path.join(self.state, ".certificate", "MakoServer.pem"))
        self.assertEqual(run.stdout, "Hello World!", run.stderr)
        self.assertNotEqual(self.get().returncode, 0)

    def test_a_silent_client_is_answered_too(self):
        self.start()
        context = pki.anybody()
        with self.connect(self.port) as raw, context.wrap_socket(raw) as s:
            self.assertTrue(harness.read_all(s).endswith(b"Hello World!"))

    def test_many_at_once(self):
        self.start()
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(self.get("-k").stdout)) for _ in range(30)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(answers, ["Hello World!"] * 30)


class Listing11Test(harness.Case):
    def test_a_trusted_server(self):
        """`google.com` is a server of ours whose authority the system trusts; a page and a cosocket connect."""
        authority = pki.Pki(os.path.join(self.directory, "pki"))
        context = pki.server(*authority.issue("localhost"))

        def serve(connection):
            with context.wrap_socket(connection, server_side=True) as s:
                s.sendall(b"hello")
                harness.read_all(s)

        port = self.server(serve).port
        connect = documents.listing("listing11", **{'"google.com",443': f'"localhost",{port}'})
        d = self.cosockd(f"""
            local function page(where)
              {connect}
              print(where, s:trusted(), s:read())
              s:close()
            end
            page "start-up"
            ba.thread.run(function() page "job" end)
            ba.socket.event(function() page "cosocket" end)
            """, env={"SSL_CERT_FILE": authority.ca})
        for where in ("start-up", "job", "cosocket"):
            d.wait_log(f"^{where}\ttrue\thello$")


if __name__ == "__main__":
    harness.main()
