"""An open job: what it reads, and its output, which is one file or a folder of parts as Hadoop writes it.

A folder has one part for each reducer, `part-00000` and so on, and `_SUCCESS`, which is written last. It must not exist
before. A key is in the part to which Hadoop's `HashPartitioner` assigns it.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from imgpipeline.compat.mapreduce.inputs import find_job_inputs
from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.lake.storage.engine import Engine, disk_errors, open_engine
from imgpipeline.objectstore.client import open_target
from imgpipeline.objectstore.files import STDOUT, InputFile, open_output
from imgpipeline.settings import Settings

_SUCCESS = "_SUCCESS"


@dataclass(frozen=True, slots=True)
class Job:
    """An open job."""

    inputs: Sequence[InputFile]
    engine: Engine
    streams: Sequence[BinaryIO]
    """One for each reducer."""

    def stream_of(self, key: bytes) -> BinaryIO:
        """Returns the stream for the lines of a key."""
        return self.streams[_hash(key) % len(self.streams)] if len(self.streams) > 1 else self.streams[0]


def _hash(key: bytes) -> int:
    """Returns `Text.hashCode() & Integer.MAX_VALUE`: `31 * hash + byte` from 1 on, of signed bytes in 32 bits."""
    import numpy as np  # noqa: PLC0415 - slow to load, and most outputs are one file

    values = np.frombuffer(b"\x01" + key, np.int8).astype(np.uint32)
    powers = np.cumprod(np.full(len(key), 31, np.uint32), dtype=np.uint32)[::-1]
    return int(values[:-1] @ powers) + int(values[-1]) & 0x7FFFFFFF


@contextlib.contextmanager
def open_job(location: str, output: str, settings: Settings, reducers: int | None) -> Iterator[Job]:
    """Opens a job, whose output appears only if the job succeeds.

    Args:
        location: What to read, as for `find_job_inputs`.
        output: A file's path or `-` for stdout; with reducers, a folder's path or `s3://bucket/prefix`.
        reducers: The number of parts; None: one part in a bucket, otherwise one file.

    Raises:
        ConfigurationError: The input does not exist, the folder exists, or the output cannot be written.
        UsageError: Stdout cannot have parts.
        PermanentError: A file cannot be read or written, or memory or disk space is short.
        TransientError: The store does not answer.
    """
    inputs = find_job_inputs(location, settings)
    with open_engine(memory=settings.duckdb_memory) as engine:
        if reducers is None and not as_s3_url(output).startswith("s3://"):
            with open_output(output, inputs) as stream:
                yield Job(inputs, engine, [stream])
            return
        _refuse_existing(output, settings)
        parts = [engine.folder / f"part-{number:05d}" for number in range(reducers or 1)]
        with disk_errors(engine.folder), contextlib.ExitStack() as files:
            yield Job(inputs, engine, [files.enter_context(part.open("wb")) for part in parts])
        store = open_target(settings, output)
        for part in parts:
            store.upload(part.name, part)
        store.put(_SUCCESS, b"")


def _refuse_existing(output: str, settings: Settings) -> None:
    if output == STDOUT:
        raise UsageError("--reducers needs a folder, not stdout.", next_step="name a folder, or omit --reducers")
    is_bucket = as_s3_url(output).startswith("s3://")
    if any(open_target(settings, output).list_objects()) if is_bucket else Path(output).exists():
        raise ConfigurationError(
            f"The output {output} exists. Like Hadoop, a job does not replace it.", next_step="name a new folder"
        )
