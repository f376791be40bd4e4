"""Input files of a job, as Hadoop chooses them.

Files and folders whose names begin with `_` or `.` are skipped, as Hadoop skips them (`_SUCCESS`,
`.part-00000.crc`), unless they are named themselves. An empty folder is empty input. `.gz`, `.bz2` and `.zst` are
decompressed, and a byte order mark at the start of a file is dropped.
"""

import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import zstandard

from imgpipeline.errors import PermanentError
from imgpipeline.objectstore.ahead import map_ahead
from imgpipeline.objectstore.inputs import InputFile, Selection, find_inputs, open_decompressed
from imgpipeline.settings import Settings

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
COMPRESSED = (".gz", ".bz2", ".zst")
"""Endings of files that are decompressed."""
_HADOOP = Selection(hidden=("_", "."), globs_take_folders=True)
_READERS = 16
_AHEAD = 32
_UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError)


def find_job_inputs(location: str, settings: Settings) -> list[InputFile]:
    """Lists the files that a job reads, in their order; arguments and errors as `find_inputs`."""
    return find_inputs(location, settings, _HADOOP)


def open_each(inputs: Sequence[InputFile]) -> Iterator[tuple[InputFile, io.BufferedReader]]:
    """Yields the files in order, each opened and decompressed, without its byte order mark.

    Objects of a bucket are fetched ahead. Each file is closed when the next one is requested.

    Raises:
        PermanentError: A file cannot be read, or is not compressed as its name says; so do reads within `reading`.
        TransientError: The store does not answer.
    """
    remote = any(file.path is None for file in inputs)
    opened = map_ahead(_open, inputs, workers=_READERS, ahead=_AHEAD) if remote else map(_open, inputs)
    for file, raw in zip(inputs, opened, strict=True):
        with raw, reading(file):
            stream = open_decompressed(raw, file.where)
            if stream.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK):
                stream.read(len(BYTE_ORDER_MARK))
            yield file, stream


def _open(file: InputFile) -> io.BufferedReader:
    with reading(file):
        return file.open_raw()


@contextmanager
def reading(file: InputFile) -> Iterator[None]:
    """Turns an error while a file is read into one that names the file.

    Raises:
        PermanentError: The file cannot be read.
    """
    try:
        yield
    except _UNREADABLE as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise PermanentError(
            f"{file.where} cannot be read: {reason}.", next_step="repair or remove that file, and run the job again"
        ) from error
