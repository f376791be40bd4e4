"""The output of a job: one file, or a folder of parts as Hadoop writes it.

A folder has one part for each reducer, `part-00000` and so on, and `_SUCCESS`, which is written last. It must not exist
before. A key is in the part to which Hadoop's `HashPartitioner` assigns it.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.lake.storage.engine import Engine, disk_errors, scratch_folder
from imgpipeline.objectstore.client import ObjectStore, open_bucket
from imgpipeline.objectstore.files import STDOUT, InputFile, open_output
from imgpipeline.settings import Settings

_SUCCESS = "_SUCCESS"


@dataclass(frozen=True, slots=True)
class JobOutput:
    """The streams of an open output, one for each reducer; files can also be read through them."""

    streams: tuple[BinaryIO, ...]

    def of(self, key: bytes) -> BinaryIO:
        """Returns the stream for the lines of a key."""
        return self.streams[_hash(key) % len(self.streams)] if len(self.streams) > 1 else self.streams[0]


def _hash(key: bytes) -> int:
    """Returns `Text.hashCode() & Integer.MAX_VALUE`: `31 * hash + byte` from 1 on, of signed bytes in 32 bits."""
    import numpy as np  # noqa: PLC0415 - slow to load, and most outputs are one file

    values = np.frombuffer(b"\x01" + key, np.int8).astype(np.uint32)
    powers = np.cumprod(np.full(len(key), 31, np.uint32), dtype=np.uint32)[::-1]
    return int(values[:-1] @ powers) + int(values[-1]) & 0x7FFFFFFF


@contextlib.contextmanager
def open_job_output(
    output: str, inputs: Sequence[InputFile], engine: Engine, settings: Settings, reducers: int | None
) -> Iterator[JobOutput]:
    """Opens the output of a job, which appears only if the job succeeds.

    Args:
        output: A file's path or `-` for stdout; with reducers, a folder's path or `s3://bucket/prefix`.
        reducers: The number of parts; None: one part in a bucket, otherwise one file.

    Raises:
        ConfigurationError: The folder exists, or cannot be written.
        UsageError: Stdout cannot have parts.
        PermanentError: The disk is full.
        TransientError: The store does not answer.
    """
    output = as_s3_url(output)
    is_bucket = output.startswith("s3://")
    if reducers is None and not is_bucket:
        with open_output(output, inputs) as stream:
            yield JobOutput((stream,))
        return
    if output == STDOUT:
        raise UsageError("--reducers needs a folder, not stdout.", next_step="name a folder, or omit --reducers")
    store, prefix = _bucket_folder(output, settings) if is_bucket else (None, "")
    path = Path(output).absolute()
    if path.exists() if store is None else any(True for _ in store.list_objects(prefix)):
        raise ConfigurationError(
            f"The output {output} exists. Like Hadoop, a job does not replace it.", next_step="name a new folder"
        )
    # The parts of a local folder are on its disk from the start, so that one rename makes all of them appear.
    parent = path.parent if store is None else engine.folder
    with disk_errors(parent), scratch_folder(parent, f".{path.name}.") as scratch:
        parts = scratch / "parts"
        parts.mkdir()
        with contextlib.ExitStack() as files:
            names = [f"part-{number:05d}" for number in range(reducers or 1)]
            yield JobOutput(tuple(files.enter_context((parts / name).open("w+b")) for name in names))
        (parts / _SUCCESS).touch()
        if store is None:
            parts.rename(path)
            return
        for name in [*names, _SUCCESS]:
            store.upload(f"{prefix}/{name}", parts / name)


def _bucket_folder(url: str, settings: Settings) -> tuple[ObjectStore, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not bucket or not prefix.strip("/"):
        raise UsageError(f"{url} is not a folder in a bucket.", next_step="give s3://bucket/folder")
    return open_bucket(settings, bucket), prefix.strip("/")
