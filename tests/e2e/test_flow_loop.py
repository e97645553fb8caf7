"""Tunnels whose every byte passes through Lua: slow readers and resets."""

import harness
from flow import Flow

LISTING = harness.ROOT + "/bench/scripts/loop.lua"


@harness.both_descriptor_kinds
class LoopFlowTest(Flow, harness.Case):
    def tunnel(self, origin_port):
        port = harness.free_port()
        return self.cosockd(LISTING, [port, "127.0.0.1", origin_port], [port]), port


if __name__ == "__main__":
    harness.main()
