"""A real S3 server (versitygw on a folder) and the buckets in it.

Promises create-only puts that are refused the second time, strongly consistent listings, and one access key.
Which keys the project puts there does not belong here.
"""

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from obstore.store import S3Store

from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import Server, ServerProcess

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """One bucket and how it is reached."""

    name: str
    """Name of the bucket."""
    endpoint: str
    """URL of the server: `http://127.0.0.1:port`."""
    access_key_id: str
    """Access key id of the only account."""
    secret_access_key: str
    """Secret of the only account; made up for the tests."""

    @property
    def url(self) -> str:
        """The bucket as a store URL: `s3://name`."""
        return f"s3://{self.name}"

    def environment(self) -> dict[str, str]:
        """Return the environment by which imgpipeline, boto3 and DuckDB find the bucket."""
        return {
            "IMGPIPELINE_STORE_URL": self.url,
            "IMGPIPELINE_S3_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def store(self, prefix: str | None = None) -> S3Store:
        """Return an obstore client of the bucket, below the prefix, that does not depend on the environment."""
        return S3Store(
            self.name,
            prefix=prefix,
            endpoint=self.endpoint,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            region=REGION,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )


class S3Server(Server):
    """One versitygw with its data in `work_dir`; a context manager.

    Guarantees:
        Ready when `start` returns (0.1 s). `kill` keeps what was put, `start` afterwards serves it again on the
        same port. A bucket is a folder of `data_dir`, an object a file in it.
    """

    def __init__(
        self,
        work_dir: Path,
        *,
        access_key_id: str = "test-key",
        secret_access_key: str = "test-secret",  # noqa: S107 - made up, and the server is on loopback
        access_log: Path | None = None,
    ) -> None:
        self.data_dir = work_dir / "data"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self.access_log = access_log
        self.process = ServerProcess("versitygw", self.command(), work_dir / "versitygw.log")

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return f"http://{LOOPBACK}:{self.port}"

    def create_bucket(self, name: str) -> S3Bucket:
        """Make an empty bucket; also while the server is down."""
        (self.data_dir / name).mkdir()
        return self.bucket(name)

    def bucket(self, name: str) -> S3Bucket:
        """Return how a bucket is reached, whether it is there or not."""
        return S3Bucket(name, self.endpoint, self.access_key_id, self.secret_access_key)

    def command(self) -> list[str | Path]:
        listen = ["--port", f"{LOOPBACK}:{self.port}", "--health", "/health", "--keep-alive", "--quiet"]
        account = ["--access", self.access_key_id, "--secret", self.secret_access_key, "--region", REGION]
        logged = ["--access-log", self.access_log] if self.access_log else []
        return [programs.versitygw(), *listen, *account, *logged, "posix", self.data_dir]

    def is_ready(self) -> bool:
        """Tell whether it answers that it is healthy."""
        if not super().is_ready():
            return False
        try:
            with urllib.request.urlopen(f"{self.endpoint}/health", timeout=1) as answer:  # noqa: S310 - our own URL
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
