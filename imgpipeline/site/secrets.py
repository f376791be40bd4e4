"""The secrets of a site: passwords, certificates and keys, one file each.

A second call makes only the passwords and keys that are missing, so a site keeps them when it is upgraded, and renews
the files that hold passwords from other files.
"""

import hashlib
import json
import secrets
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from imgpipeline.errors import ConfigurationError
from imgpipeline.web.keys import KeyFile, Scope

FIRST_USER = "admin"
S3_USERS = ("code", "dagster", "sources", "ingest", "viewer", "alerts", "exporter")
KAFKA_USERS = ("admin", "code", "sources", "ingest", "exporter")
_VALID_FOR = timedelta(days=3650)
_PRIVATE_FOLDER, _OPEN_INSIDE, READABLE = 0o700, 0o755, 0o644


def write_file(path: Path, content: str) -> None:
    """Writes a file that containers read as another user; a full disk leaves no half one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(content)
    partial.chmod(READABLE)
    partial.replace(path)


class SecretFiles:
    """The folder `secrets/` of a site.

    Only its owner may enter the folder. The files themselves are readable, because a container sees a single file of
    it, as another user, and so is the folder of the cameras' logins, which one container sees.
    """

    def __init__(self, folder: Path) -> None:
        """Creates the folder, if there is none."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(_PRIVATE_FOLDER)
        (folder / "cameras").mkdir(exist_ok=True)
        (folder / "cameras").chmod(_OPEN_INSIDE)

    def read(self, name: str) -> str:
        """Returns the content of a secret."""
        return (self.folder / name).read_text().strip()

    def make(self, name: str, new: Callable[[], str] | str = "") -> bool:
        """Writes a secret unless it exists; returns whether it was written."""
        path = self.folder / name
        if path.exists():
            return False
        write_file(path, new if isinstance(new, str) else new())
        return True


def random_password() -> str:
    """Returns a password of 32 letters and digits: safe in URLs and in files of any program."""
    return secrets.token_hex(16)


def make_secrets(files: SecretFiles, now: datetime) -> dict[str, str]:
    """Makes all secrets of a site that do not exist yet, apart from those that people give.

    Returns:
        What is shown only once: the password of the first user and the first API key, as far as they are new.
    """
    shown: dict[str, str] = {}
    for name in (
        *(f"kafka_password_{user}" for user in KAFKA_USERS),
        *(f"s3_secret_{user}" for user in ("admin", *S3_USERS)),
        *(f"postgres_password_{user}" for user in ("admin", "dagster", "exporter")),
        *("proxy_secret", "grafana_password", "mqtt_password"),
    ):
        files.make(name, random_password)
    write_file(files.folder / "mqtt_users", _mqtt_users(files))
    write_file(files.folder / "s3_users.json", _s3_users(files))
    write_file(files.folder / "proxy_headers.yaml", _proxy_headers(files.read("proxy_secret")))
    for name, host in (("kafka", "kafka"), ("mqtt", "mosquitto")):
        pair = (f"{name}_ca.pem", f"{name}_server.pem")
        lost = [each for each in pair if not (files.folder / each).exists()]
        if len(lost) == 1:
            step = "restore it, or move the other file away and run imgpipeline site init FOLDER, which makes both"
            raise ConfigurationError(f"Of secrets/{' and secrets/'.join(pair)}, {lost[0]} is missing.", next_step=step)
        if lost:
            for each, content in zip(pair, make_certificates(host, now), strict=True):
                write_file(files.folder / each, content)
    keys = files.folder / "api_keys.json"
    if not keys.exists():
        shown["api key"] = KeyFile(keys).add(("*",), now, scopes=(Scope.INGEST,), name="first")
        keys.chmod(READABLE)
    password = random_password()  # last: nothing shows it if a later step fails
    if files.make("users", lambda: _page_user(FIRST_USER, password)):
        shown = {"user": FIRST_USER, "password": password, **shown}
    return shown


def _s3_users(files: SecretFiles) -> str:
    """Returns the accounts of the S3 server, in versitygw's form, with those that people added."""
    path = files.folder / "s3_users.json"
    try:
        kept = dict(json.loads(path.read_text())["accessAccounts"]) if path.exists() else {}
    except (ValueError, KeyError, TypeError):
        step = "restore it, or move it away and run imgpipeline site init FOLDER, which makes it without added accounts"
        raise ConfigurationError(f"{path} is damaged.", next_step=step) from None
    accounts = {user: {"access": user, "secret": files.read(f"s3_secret_{user}"), "role": "user"} for user in S3_USERS}
    return json.dumps({"accessAccounts": {**kept, **accounts}}, indent=2)


def _page_user(name: str, password: str) -> str:
    """Returns a line of the proxy's file of users: bcrypt, as htpasswd makes it."""
    return f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt()).decode()}\n"


def _mqtt_users(files: SecretFiles) -> str:
    """Returns mosquitto's password file, with the cameras that people added: PBKDF2, as mosquitto_passwd makes it."""
    path, salt, rounds = files.folder / "mqtt_users", secrets.token_bytes(12), 101
    hashed = hashlib.pbkdf2_hmac("sha512", files.read("mqtt_password").encode(), salt, rounds)
    own = f"sources:$7${rounds}${b64encode(salt).decode()}${b64encode(hashed).decode()}"
    lines = path.read_text().splitlines() if path.exists() else []
    return "\n".join([own, *(line for line in lines if not line.startswith("sources:")), ""])


def _proxy_headers(secret: str) -> str:
    """Returns a middleware of the proxy as JSON, which is YAML."""
    headers = {"customRequestHeaders": {"X-Proxy-Secret": secret}}
    return json.dumps({"http": {"middlewares": {"proxy-secret": {"headers": headers}}}}, indent=2)


def make_certificates(host: str, now: datetime) -> tuple[str, str]:
    """Makes a certificate for a server, signed by an authority of its own, whose key is not kept.

    Returns:
        The authority's certificate, and the server's key with its chain: both PEM.
    """
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "imgpipeline site")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    authority = _certificate(authority_name, authority_key, now).issuer_name(authority_name)
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    signs = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # key_cert_sign and crl_sign
    authority = authority.add_extension(signs, critical=True)
    signed_authority = authority.sign(authority_key, hashes.SHA256())
    server = _certificate(name, key, now).issuer_name(authority_name)
    server = server.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    server = server.add_extension(issuer, critical=False)
    signed = server.sign(authority_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    own_key = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    ca = signed_authority.public_bytes(pem)
    return ca.decode(), (own_key + signed.public_bytes(pem) + ca).decode()


def _certificate(name: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
