"""Certificates for tests, made with openssl in a temporary folder."""

import subprocess
from pathlib import Path


def run(*args):
    subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Authority:
    """A certificate authority of a test's own; its root is .root."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.root, self.key = self.folder / "root.pem", self.folder / "root.key"
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(self.key), "-out",
            str(self.root), "-days", "30", "-subj", "/CN=Belay test root", "-addext", "basicConstraints=critical,CA:TRUE")

    def issue(self, name, kind="ec", days=10):
        """A certificate with its chain and its key, for localhost: two paths."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        new = ["-newkey", "rsa:2048"] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        run("req", *new, "-nodes", "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}")
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        run("x509", "-req", "-in", str(request), "-CA", str(self.root), "-CAkey", str(self.key), "-CAcreateserial", "-days",
            str(days), "-extfile", str(extensions), "-out", str(certificate))
        with open(certificate, "a") as f:
            f.write(self.root.read_text())
        return certificate, key
