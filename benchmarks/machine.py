"""On what was measured: processor, cores, memory, and the versions that matter."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from imgpipeline_tests.servers.programs import HADOOP_VERSION, KAFKA_VERSION, VERSITYGW_VERSION

_REPOSITORY = Path(__file__).resolve().parents[1]
_PACKAGES = (
    "onnxruntime",
    "opencv-python",
    "kafka-python",
    "obstore",
    "duckdb",
    "dagster",
    "boto3",
    "pandas",
    "polars",
)
_GIB = 2**30


def describe_machine(effort: str) -> dict[str, str]:
    """Returns lines about this machine and this moment.

    Args:
        effort: How much is measured.
    """
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {effort}, commit {commit_of(_REPOSITORY)}",
        "processor": f"{_processor()}, {os.cpu_count()} cores, shared by the run, Kafka and the S3 server",
        "memory": f"{memory_gib:.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f} processes at work in the minute before",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "servers": f"Kafka {KAFKA_VERSION}, versitygw {VERSITYGW_VERSION}, Hadoop {HADOOP_VERSION}",
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def commit_of(checkout: Path) -> str:
    """Returns the short name of the commit that a folder has checked out."""
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - git is on the path where a checkout is
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"
