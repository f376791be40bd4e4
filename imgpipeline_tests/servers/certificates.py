"""Throw-away certificates for brokers that speak TLS: a CA, a wrong CA, and a server key signed by the first."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from imgpipeline_tests.servers import programs

_CA_EXTENSIONS = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
_SERVER_EXTENSIONS = """\
subjectAltName=IP:127.0.0.1,DNS:localhost
basicConstraints=CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM."""

    ca_file: Path
    """The certificate authority that clients should trust."""
    wrong_ca_file: Path
    """Another authority, for clients that must be refused."""
    server_file: Path
    """The server's key (PKCS#8, not encrypted) and its chain, in one file, as Kafka's PEM key store wants it."""


def make_certificates(folder: Path) -> Certificates:
    """Make all files in the folder.

    Raises:
        MissingProgramError: There is no openssl.
        RuntimeError: openssl refused; the message has its output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for authority in ("ca", "wrong-ca"):
        _make_authority(folder, authority)
    (folder / "extensions").write_text(_SERVER_EXTENSIONS)
    new_key = ["-newkey", "rsa:2048", "-nodes", "-keyout", "server.key"]
    _openssl(folder, "req", *new_key, "-subj", "/CN=localhost", "-out", "server.csr")
    signed_by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "extensions"]
    _openssl(folder, "x509", "-req", "-in", "server.csr", *signed_by, "-out", "server.crt")
    _openssl(folder, "pkcs8", "-topk8", "-nocrypt", "-in", "server.key", "-out", "server.pem")
    with (folder / "server.pem").open("a") as chain:
        chain.write((folder / "server.crt").read_text() + (folder / "ca.pem").read_text())
    return Certificates(folder / "ca.pem", folder / "wrong-ca.pem", folder / "server.pem")


def _make_authority(folder: Path, name: str) -> None:
    extensions = [part for extension in _CA_EXTENSIONS for part in ("-addext", extension)]
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key"]
    _openssl(
        folder, "req", "-x509", *key, "-days", "30", "-subj", f"/CN=test {name}", "-out", f"{name}.pem", *extensions
    )


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run([programs.openssl(), *arguments], check=False, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} ended with status {done.returncode}:\n{done.stderr}")
