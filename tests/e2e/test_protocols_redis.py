"""A Redis client as a script, against redis-server."""

import harness
import protocols


class Redis(protocols.ProtocolCase):
    def test_client(self):
        port = harness.free_port()
        self.serve([self.need("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", self.directory], port)
        self.run_script("redis", port)


if __name__ == "__main__":
    harness.main()
