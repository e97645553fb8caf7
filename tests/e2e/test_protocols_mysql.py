"""A MySQL client as a script, against mariadbd."""

import os
import pwd
import subprocess

import harness
import protocols

SETUP = """
create database test;
create user tester@'%' identified via mysql_native_password using password('secret');
grant all on test.* to tester@'%';
"""


class Mysql(protocols.ProtocolCase):
    def test_client(self):
        port, data = harness.free_port(), os.path.join(self.directory, "data")
        install, server, client = self.need("mariadb-install-db", "mariadbd", "mariadb")
        user = "--user=" + pwd.getpwuid(os.geteuid()).pw_name
        done = subprocess.run([install, "--no-defaults", user, f"--datadir={data}", "--auth-root-authentication-method=normal",
                               "--skip-test-db", "--innodb-log-file-size=4M", "--cross-bootstrap"],
                              capture_output=True, text=True, check=False, timeout=100)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.serve([server, "--no-defaults", user, f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
                    f"--socket={data}/s", f"--pid-file={data}/pid", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0",
                    "--innodb-log-file-size=4M"], port)
        subprocess.run([client, "--no-defaults", "-u", "root", "-S", f"{data}/s"], input=SETUP, text=True, check=True, timeout=90)
        self.run_script("mysql", port)


if __name__ == "__main__":
    harness.main()
