"""Output files of commands: a file appears complete or not at all, so a failure leaves an older file unchanged."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from imgpipeline.errors import ConfigurationError, PermanentError, UsageError
from imgpipeline.objectstore.inputs import InputFile

STDOUT = "-"
_SURE_MODE = 0o666


@contextlib.contextmanager
def open_output(output: str, inputs: Sequence[InputFile] = (), *, option: str = "--output") -> Iterator[BinaryIO]:
    """Opens the output of a command.

    Args:
        output: A file's path, or `-` for stdout.
        inputs: The command's input files; the output must not be one of them.
        option: The option that names the output, for messages.

    Yields:
        A binary stream; a file can also be read through it.

    Raises:
        ConfigurationError: The folder is missing or not writable, or the output is a folder, a pipe or a device, which
            a file must not replace.
        UsageError: The file is one of the inputs.
        PermanentError: The disk is full.
    """
    if output == STDOUT:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    if any(file.path and path.exists() and path.samefile(file.path) for file in inputs):
        raise UsageError(
            f"The output {output} is one of the files to read.", next_step=f"name another file with {option}"
        )
    if path.is_dir():
        raise ConfigurationError(
            f"The output {output} is a folder, not a file.", next_step=f"name a file with {option}"
        )
    if path.exists() and not path.is_file():
        raise ConfigurationError(
            f"The output {output} is a pipe or a device, not a file.",
            next_step=f"write to stdout: `{option} - > {output}`",
        )
    path = path.resolve()  # a link stays a link
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ConfigurationError(
            f"The output {output} cannot be written: {error.strerror}.",
            next_step=f"name a file with {option}, in a folder that this user may write",
        ) from error
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            with _disk_errors(output):
                file.flush()
                os.fchmod(descriptor, _SURE_MODE & ~_umask())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _disk_errors(output: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PermanentError(
            f"{output} cannot be written: {error.strerror}.", next_step="free space on that disk"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write(stream: BinaryIO, data: bytes) -> None:
    """Writes; raises PermanentError if the disk is full, and BrokenPipeError if nothing reads the pipe any more."""
    try:
        stream.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise PermanentError(
            f"The output cannot be written: {error.strerror}.", next_step="free space on its disk"
        ) from error
