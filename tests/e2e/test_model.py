"""Random sequences of API calls over real sockets, compared with the model of tests/model.

COSOCKD_MODEL_SEED=N and COSOCKD_MODEL_SEQUENCES=N choose others than the default ones. From 1,000 on every
row of the rules must have been hit. (The simulator does the same with thousands: tests/sim/test_script.c.)"""

import os
import signal
import time

import far
import harness

SEQUENCES = int(os.environ.get("COSOCKD_MODEL_SEQUENCES", 200 // harness.SLOW))
SEED = int(os.environ.get("COSOCKD_MODEL_SEED", time.time()))
RUN = "tests/model/run.lua"


@harness.both_descriptor_kinds
class ModelTest(harness.Case):
    def model(self, *arguments, seconds=120):
        ends = far.Far(lambda: self.daemon.signal(signal.SIGTERM))
        self.addCleanup(ends.close)
        self.daemon = self.cosockd(os.path.abspath(RUN), [*ends.arguments(), *arguments])
        self.daemon.expect("expected in the log")
        self.daemon.wait_log("model: (good|bad)", seconds + SEQUENCES)
        log = self.daemon.log()
        self.assertIn("model: good", log, log[-5000:])
        return log

    def test_sequences(self):
        print(f"COSOCKD_MODEL_SEED={SEED}")
        cover = int(SEQUENCES >= 1000)
        self.model(f"seed={SEED}", f"n={SEQUENCES}", f"cover={cover}", "stop=1",
                   "parallel=8", f"patience={120000 * harness.SLOW}")


if __name__ == "__main__":
    harness.main()
