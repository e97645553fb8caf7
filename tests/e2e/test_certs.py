"""Certificates over a daemon's life: reading, reloading, expiring, and who may read the keys."""

import os
import pwd
import shutil
import stat
import subprocess
import time

import harness
import pki

SCRIPT = """
local args = ...
local function must(value, err, text) return value or error(text or err, 0) end
-- kept: they are in use
certificates, store = {}, ba.create.certstore()
for i, spec in ipairs(args.certs) do certificates[i] = must(ba.create.sharkcert(spec)) end
for _, file in ipairs(args.trust or {}) do must(store:addcert {file = file}) end
assert(ba.socket.bind(args.port, "127.0.0.1")):event(function(listener)
  for sock in listener.accept, listener do
    sock:write(tostring(certificates[1]))
    sock:close()
  end
end)
"""


class CertificateCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.need("openssl")
        self.pki = pki.Pki(os.path.join(self.directory, "pki"))
        self.write("certs.lua", SCRIPT)
        self.port = harness.free_port()

    def text(self, *certs, trust=(), settings=""):
        """A configuration; a certificate is (file, key file) or a text of fields."""
        listed = ", ".join(c if isinstance(c, str) else f'{{ cert = "{c[0]}", key = "{c[1]}" }}' for c in certs)
        trusted = ", ".join(f'"{t}"' for t in trust)
        return (f'{settings}\nservice "tls" {{ script = "certs.lua", port = {self.port}, certs = {{ {listed} }}, '
                f'trust = {{ {trusted} }} }}\n')

    def start(self, *certs, **options):
        self.daemon = self.service(self.text(*certs, **options), [self.port])
        return self.daemon

    def in_use(self):
        return {c["name"]: c for c in self.status()["certificates"]}

    def ends(self):
        return {name: c["expires"] for name, c in self.in_use().items()}

    def assert_answers(self, name):
        with self.connect(self.port) as s:
            self.assertIn(name, harness.read_all(s).decode())

    def assert_refused(self, *what):
        """A reload fails with these words in its answer, and the log has them too."""
        run = self.reload()
        self.assertEqual(run.returncode, 1, run.stdout)
        for word in what:
            self.assertIn(word, run.stdout + run.stderr)
            self.assertIn(word, self.daemon.log())
        self.daemon.expect("reload refused")


class ReloadTest(CertificateCase):
    def test_a_renewed_certificate_is_read_again(self):
        cert, key = self.pki.issue("a.example", days=40)
        self.start((cert, key))
        self.assertEqual(self.in_use()["a.example"]["file"], cert)
        before = self.in_use()["a.example"]["expires"]
        self.assertLess(abs(before - time.time() - 40 * 86400), 1000)
        self.pki.issue("a.example", days=80)
        self.assertEqual(self.reload().returncode, 0)
        after = self.in_use()["a.example"]
        self.assertLess(abs(after["expires"] - time.time() - 80 * 86400), 1000)
        self.assertLess(abs(after["seconds_left"] - 80 * 86400), 1000)
        self.assertIn("a.example ends in", self.control("status").stdout)

    def test_all_together_or_not_at_all(self):
        """One file of several is wrong: the old ones stay in force, each of them."""
        a, b = self.pki.issue("a.example"), self.pki.issue("b.example")
        self.start(a, b)
        old = self.ends()
        self.pki.issue("a.example", days=200)  # good, and not to be used
        os.rename(b[1], b[1] + ".away")
        self.assert_refused(f"{b[1]}: no such file or directory")
        self.assertEqual(self.ends(), old)
        other = self.pki.issue("other.example")
        os.rename(other[1], b[1])
        self.assert_refused(f"{b[1]}: the key is not that of the first certificate (b.example)")
        self.assertEqual(self.ends(), old)
        self.assert_answers("a.example")
        os.rename(b[1] + ".away", b[1])
        self.assertEqual(self.reload().returncode, 0)
        self.assertNotEqual(self.ends(), old)

    def test_trusted_authorities_and_revocation_lists(self):
        trust = [os.path.join(self.directory, name) for name in ("trust.pem", "crl.pem")]
        shutil.copy(self.pki.ca, trust[0])
        self.pki.revoke(trust[1])
        self.start(self.pki.issue("a.example"), trust=trust)
        for file in trust:
            os.rename(file, file + ".good")
            self.write(os.path.basename(file), "rubbish")
            self.assert_refused(f"{file}: there is no certificate in it")
            os.rename(file + ".good", file)
        self.assertEqual(self.reload().returncode, 0)
        self.assert_answers("a.example")

    def test_a_test_of_the_configuration_reads_the_files(self):
        cert, key = self.pki.issue("a.example")
        for broken, what in (((cert, key + "x"), f"{key}x: no such file"),
                             ((key, key), f"{key}: there is no certificate"),
                             ((cert, self.pki.ca_key), f"{self.pki.ca_key}: the key is not that")):
            path = self.config(self.text(broken))
            run = subprocess.run([harness.COSOCKD, "-t", "-c", path], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 78)
            self.assertIn(what, run.stderr)

    def test_encrypted_keys(self):
        cert, key = self.pki.issue("a.example", password="long-and-secret")
        secret = self.write("password", "long-and-secret\n")
        self.start(f'{{ cert = "{cert}", key = "{key}", password_file = "{secret}" }}')
        self.assert_answers("a.example")
        self.write("password", "other-and-secret\n")
        self.assert_refused(f"{key}: wrong password, or the key is damaged")
        self.config(self.text((cert, key)))
        self.assert_refused(f"{key}: the key is encrypted and no password was given")
        self.assertNotIn("and-secret", self.daemon.log())


class ExpiryTest(CertificateCase):
    def test_the_log_warns(self):
        d = self.start(*(self.pki.issue(f"d{days}.example", days=days) for days in (400, 29, 6, 1, -1)))
        d.expect("certificate has expired")
        d.wait_log(r"error certificate has expired name=d-1.example file=\S+d-1.example.pem days=[01]$")
        d.wait_log(r"warn certificate expires soon name=d29.example .*days=2[89]$")
        d.wait_log(r"warn certificate expires soon name=d6.example .*days=[56]$")
        d.wait_log(r"warn certificate expires soon name=d1.example .*days=[01]$")
        self.assertNotIn("d400.example", d.log())
        names = [c["name"] for c in self.status()["certificates"]]
        self.assertEqual(names, ["d-1.example", "d1.example", "d6.example", "d29.example", "d400.example"])

    def test_once_for_all_cells_and_workers(self):
        d = self.start(self.pki.issue("a.example", days=5), settings="workers = 2\ncells = 2")
        d.wait_log("certificate expires soon name=a.example")
        self.assertEqual([c["name"] for c in self.status()["certificates"]], ["a.example"])
        self.assertEqual(d.log().count("certificate expires soon"), 1)

    def test_only_what_is_in_use_counts(self):
        cert, key = self.pki.issue("a.example")
        self.write("certs.lua", f"""
            assert(ba.create.sharkcert{{cert = "{cert}", key = "{key}"}})
            collectgarbage() collectgarbage()
            assert(ba.socket.bind((...).port, "127.0.0.1")):event(function(l) l:accept() end)
        """)
        self.start()
        self.assertEqual(self.in_use(), {})


class SecretsTest(CertificateCase):
    def need_root(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        self.nobody = pwd.getpwnam("nobody")
        for path in (self.directory, os.path.join(self.directory, "pki")):
            os.chmod(path, 0o755)

    def test_keys_of_root_are_read_before_root_is_given_up(self):
        """...and no more after that: a reload says which file it could not read, and changes nothing."""
        self.need_root()
        cert, key = self.pki.issue("a.example")
        self.assertEqual(stat.S_IMODE(os.stat(key).st_mode), 0o600)
        self.start((cert, key), settings='user = "nobody"')
        self.assertIn("nobody", subprocess.run(["ps", "-o", "user=", "-p", str(self.daemon.pid)], capture_output=True,
                                               text=True, check=True).stdout)
        self.assert_answers("a.example")
        self.assert_refused(f"{key}: permission denied")
        self.assert_answers("a.example")
        os.chown(key, self.nobody.pw_uid, -1)
        self.assertEqual(self.reload().returncode, 0)

    def test_no_core_file_and_no_tracer_once_there_is_a_key(self):
        """The kernel gives /proc/PID of such a process to root."""
        self.need_root()
        if harness.SANITIZER:
            self.skipTest("the leak checker is a tracer")
        cert, key = self.pki.issue("a.example")
        cosockd = shutil.copy(harness.COSOCKD, self.directory)  # the build may lie where only root may look
        os.chown(key, self.nobody.pw_uid, -1)
        os.chown(self.directory, self.nobody.pw_uid, -1)
        for certs, owner in (((), self.nobody.pw_uid), (((cert, key),), 0)):
            path = self.config(self.text(*certs))
            process = subprocess.Popen([cosockd, "-c", path], stdin=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, user="nobody", extra_groups=[],
                                       group=self.nobody.pw_gid, preexec_fn=harness.die_with_parent)
            try:
                harness.until(lambda: harness.listening(self.port), 10, "listening")
                self.assertEqual(os.stat(f"/proc/{process.pid}/environ").st_uid, owner)
            finally:
                process.terminate()
                process.wait(20)

    def test_the_servers_own_pair(self):
        """Made when a script first asks for it; read only by its owner; the same after a restart."""
        script = ('local io = ba.openio "vm"\n'
                  'assert(ba.create.sharkcert(io, ".certificate/MakoServer.pem", ".certificate/MakoServer.key",'
                  ' "sharkssl"))\n'
                  'assert(ba.socket.bind((...).port, "127.0.0.1")):event(function(l) l:accept() end)\n')
        folder = os.path.join(self.directory, "vm", ".certificate")
        if os.geteuid() == 0:
            os.chown(self.directory, pwd.getpwnam("nobody").pw_uid, -1)
        self.write("certs.lua", "assert(ba.socket.bind((...).port, '127.0.0.1')):event(function(l) l:accept() end)")
        self.start()
        self.assertFalse(os.path.exists(folder))
        self.write("certs.lua", script)
        self.assertEqual(self.reload().returncode, 0)
        key, cert = os.path.join(folder, "MakoServer.key"), os.path.join(folder, "MakoServer.pem")
        self.assertEqual(stat.S_IMODE(os.stat(key).st_mode), 0o600)
        for path in (folder, key, cert):  # whose the data folder is
            self.assertEqual(os.stat(path).st_uid, os.stat(self.directory).st_uid)
        with open(key, "rb") as f:
            first = f.read()
        self.daemon.stop()
        self.start()
        with open(key, "rb") as f:
            self.assertEqual(f.read(), first)
        self.assertEqual(sorted(os.listdir(folder)), ["MakoServer.key", "MakoServer.pem"])
        out = pki.openssl("x509", "-in", cert, "-noout", "-text")
        self.assertIn("DNS:localhost", out)
        self.assertIn("Public Key Algorithm: id-ecPublicKey", out)
        pki.openssl("verify", "-CAfile", cert, "-verify_ip", "127.0.0.1", cert)

    def test_a_data_folder_that_cannot_be_written(self):
        self.write("certs.lua", 'trace((ba.openio "vm"):stat ".certificate/MakoServer.pem")\n'
                                'assert(ba.socket.bind((...).port, "127.0.0.1")):event(function(l) l:accept() end)\n')
        path = self.config(self.text())
        with open(path, encoding="utf-8") as f:
            text = f.read().replace(f'data_dir = "{self.directory}"', 'data_dir = "/proc"')
        self.write("cosockd.lua", text)
        d = self.run_cosockd(["-c", path])
        d.wait_listening([self.port])
        d.wait_log("no certificate for this server .*no such file or directory")


if __name__ == "__main__":
    harness.main()
