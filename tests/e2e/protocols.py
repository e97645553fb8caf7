"""What the tests of protocols share: a real server on a free port, and scripts/NAME.lua run by `cosockd test` against it."""

import os
import subprocess

import harness

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "scripts")


class ProtocolCase(harness.Case):
    def serve(self, command, port, seconds=30, **options):
        """Starts a server and waits until it listens (TCP); it ends with the test."""
        log = open(os.path.join(self.directory, f"server-{port}.log"), "wb")  # pylint: disable=consider-using-with
        self.addCleanup(log.close)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                                   preexec_fn=harness.die_with_parent, **options)
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.terminate)

        def ready():
            if process.poll() is not None:
                self.fail(f"{command[0]} ended, status {process.returncode}:\n{self.read(log.name)}")
            return harness.listening(port)
        harness.until(ready, seconds, f"{command[0]} listening")
        return process

    @staticmethod
    def read(path):
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def run_script(self, name, port, **env):
        """scripts/NAME.lua as test files, with PORT."""
        run = subprocess.run([harness.COSOCKD, "test", "-t", str(20000 * harness.SLOW), f"{SCRIPTS}/{name}.lua"],
                             env={**os.environ, "PORT": str(port), **env}, cwd=self.directory, stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, check=False, timeout=100 * harness.PATIENCE)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertIsNone(harness.SANITIZER_REPORT.search(run.stdout + run.stderr), run.stdout + run.stderr)
