"""A body larger than any buffer, down and up through proxy.lua."""

import hashlib
import os
import subprocess

import harness


@harness.both_descriptor_kinds
class BigBodyTest(harness.Case):
    """1 GiB (a quarter of that where the daemon is instrumented)."""

    size = (1 << 30) // (4 if harness.SANITIZER else 1)

    def setUp(self):
        super().setUp()
        self.curl = self.need("curl")
        self.nginx = harness.Nginx(self)
        self.daemon, self.port = self.proxy([self.nginx.port])

    def make(self, path):
        """Writes the body and returns its digest. Every MiB differs from every other."""
        block = bytearray(harness.noise(1 << 20))
        total = hashlib.sha256()
        with open(path, "wb") as f:
            for i in range(self.size >> 20):
                block[0:8] = i.to_bytes(8, "big")
                total.update(block)
                f.write(block)
        return total.hexdigest()

    def curl_digest(self, *arguments):
        with subprocess.Popen([self.curl, "-sS", "--max-time", "120", *arguments],
                              stdout=subprocess.PIPE) as curl:
            total = hashlib.sha256()
            while data := curl.stdout.read(1 << 20):
                total.update(data)
        self.assertEqual(curl.returncode, 0)
        return total.hexdigest()

    def stored_digest(self):
        with open(f"{self.nginx.root}/up", "rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()

    def test_one_gib_down_and_up(self):
        path = f"{self.nginx.root}/big"
        wanted = self.make(path)
        before = self.daemon.rss()
        self.assertEqual(self.curl_digest(f"http://127.0.0.1:{self.port}/big"), wanted)
        self.curl_digest("-T", path, f"http://127.0.0.1:{self.port}/up")
        if not harness.SANITIZER:
            self.assertLess(self.daemon.rss() - before, 8 << 20, "memory grew with the body")
        os.unlink(path)
        self.assertEqual(self.stored_digest(), wanted)


if __name__ == "__main__":
    harness.main()
