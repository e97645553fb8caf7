"""Certificates for tests, made by the openssl command."""

import os
import ssl
import subprocess
import time


def openssl(*arguments, stdin=None):
    run = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(arguments)}: {run.stderr}")
    return run.stdout


def validity(days):
    """Options of `openssl x509` for so many days from now; negative: it has ended. OpenSSL 3.4 and newer refuse a
    negative -days, and only they know the dates themselves."""
    if days < 0 and tuple(map(int, openssl("version").split()[1].split(".")[:2])) >= (3, 4):
        first, last = (time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + d * 86400)) for d in (days - 1, days))
        return ["-not_before", first, "-not_after", last]
    return ["-days", str(days)]


# Lua: serve(port, shark) is an echo over TLS with the certificate and the key of words 2 and 3.
ECHO = """
local function serve(port, shark)
  shark:addcert(assert(ba.create.sharkcert {cert = arg[2], key = arg[3]}))
  assert(ba.socket.bind(tonumber(port), {intf = "127.0.0.1", shark = shark})):event(function(listener)
    for sock in listener.accept, listener do
      sock:event(function(s)
        while true do
          local data = s:read()
          if not data then break end
          s:write(data)
        end
        s:close()
      end, "s")
    end
  end)
end
"""

NEW_KEY = {"ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa": ["-newkey", "rsa:2048"]}


class Pki:
    """A CA in a folder, and what it signs."""

    def __init__(self, folder, name="Test CA"):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.ca = self.path("ca.pem")
        self.ca_key = self.path("ca.key")
        openssl("req", "-x509", *NEW_KEY["ec"], "-nodes", "-keyout", self.ca_key, "-out", self.ca, "-days", "30",
                "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def path(self, name):
        return os.path.join(self.folder, name)

    def issue(self, name, names=None, key="ec", days=90, file=None, password=None):
        """A server's certificate for DNS names and IP addresses; (certificate, key) files, the key encrypted if there
        is a password. days may be negative: it has expired."""
        file = file or name.replace("*", "_")
        cert, key_file, request = self.path(f"{file}.pem"), self.path(f"{file}.key"), self.path(f"{file}.csr")
        hide = ["-nodes"] if password is None else ["-passout", f"pass:{password}"]
        openssl("req", *NEW_KEY[key], *hide, "-keyout", key_file, "-out", request, "-subj", f"/CN={name}")
        kinds = [("IP" if n.replace(".", "").isdigit() or ":" in n else "DNS") + ":" + n for n in names or [name]]
        with open(self.path("extensions"), "w", encoding="ascii") as f:
            f.write(f"subjectAltName={','.join(kinds)}\n")
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial",
                "-out", cert, *validity(days), "-extfile", self.path("extensions"))
        return cert, key_file

    def authority(self):
        """Options of `openssl ca`: what this authority has signed and revoked is in `index`."""
        config, index = self.path("ca.cnf"), self.path("index")
        with open(config, "w", encoding="ascii") as f:
            f.write(f"[ca]\ndefault_ca=x\n[x]\ndatabase={index}\ndefault_md=sha256\ndefault_crl_days=5\n")
        if not os.path.exists(index):
            with open(index, "w", encoding="ascii"):
                pass
        return ["-config", config, "-cert", self.ca, "-keyfile", self.ca_key]

    def revoke(self, crl, cert=None):
        """Writes the list of what has been revoked, and revokes one more."""
        by = self.authority()
        if cert:
            openssl("ca", *by, "-revoke", cert)
        openssl("ca", *by, "-gencrl", "-out", crl)

    def ocsp(self, cert, file, say="valid"):
        """Writes the response that says of a certificate that it is good ("valid") or not ("revoke")."""
        openssl("ca", *self.authority(), f"-{say}", cert)
        openssl("ocsp", "-issuer", self.ca, "-cert", cert, "-reqout", self.path("ocsp.req"), "-no_nonce")
        openssl("ocsp", "-index", self.path("index"), "-rsigner", self.ca, "-rkey", self.ca_key, "-CA", self.ca,
                "-ndays", "2", "-reqin", self.path("ocsp.req"), "-respout", file)


def server(cert, key):
    """A context of Python's for a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def anybody():
    """A context for a client that trusts every server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
