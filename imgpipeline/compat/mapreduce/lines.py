"""Reads lines as Hadoop does: they end with LF, CRLF or CR. In the blocks that it yields, every line ends with LF."""

import io
from collections.abc import Iterator, Sequence

from imgpipeline.compat.mapreduce.inputs import open_each, reading
from imgpipeline.objectstore.inputs import InputFile

BLOCK_BYTES = 4 * 2**20
"""About how much is read at a time; a block is at least as long as its longest line."""


def read_blocks(inputs: Sequence[InputFile]) -> Iterator[bytes]:
    """Yields the lines of all files in blocks.

    Raises:
        PermanentError: A file cannot be read.
        TransientError: The store does not answer.
    """
    for file, stream in open_each(inputs):
        yield from _blocks(file, stream)


def _blocks(file: InputFile, stream: io.BufferedReader) -> Iterator[bytes]:
    parts: list[bytes] = []
    held = b""  # a CR at the end of the data: an LF may follow
    while True:
        with reading(file):
            data = stream.read(BLOCK_BYTES)
        text = held + data
        held = b"\r" if data and text.endswith(b"\r") else b""
        text = text[: len(text) - len(held)]
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        whole, newline, rest = text.rpartition(b"\n")
        if newline:
            yield b"".join([*parts, whole, newline])
            parts = []
        if rest:
            parts.append(rest)
        if not data:
            break
    if parts:
        yield b"".join([*parts, b"\n"])
