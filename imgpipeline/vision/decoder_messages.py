"""Keeps the warnings of image and video decoders off stderr: libjpeg, libpng and FFmpeg print them from C.

Decoding itself reports a damaged file; "Corrupt JPEG data" on stderr names no file and hides useful messages. While a
decoder works, libc's variable `stderr` points to a pipe, which affects only code that prints with C's stdio: Python,
faulthandler and Rust still write to file descriptor 2. Lines of decoders become debug messages of this module's logger,
and all others go to file descriptor 2. If C code ends the process while an image is decoded, its last output is lost.
"""

import contextlib
import ctypes
import logging
import os
import platform
import re
import threading
from collections.abc import Iterator

import cv2

_LOG = logging.getLogger(__name__)
_DECODER_LINE = re.compile(
    rb"Corrupt JPEG data|Premature end of JPEG|Invalid SOS parameters|Inconsistent progression|Unknown Adobe color"
    rb"|Warning: unknown JFIF|Application transferred too many|Unsupported marker type"  # libjpeg-turbo, jerror.h
    rb"|libpng (?:warning|error)|\[[\w,]+ @ 0x[0-9a-f]+\]|\s+Last message repeated"  # libpng, FFmpeg
)
_READ_BYTES = 65_536


class _StdioSwitch:
    """Points libc's `stderr` to a pipe while at least one decoder works, in any thread."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._pointer = ctypes.c_void_p.in_dll(libc, "stderr")
        self._real = self._pointer.value
        self._read_end, write_end = os.pipe()
        for end in (self._read_end, write_end):
            os.set_blocking(end, False)  # a full pipe loses messages and never blocks a decoder
        libc.fdopen.restype = ctypes.c_void_p
        self._sink = libc.fdopen(write_end, b"w")
        libc.setvbuf(ctypes.c_void_p(self._sink), None, 2, 0)  # _IONBF: the stream is unbuffered
        self._at_work = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def messages_caught(self) -> Iterator[None]:
        with self._lock:
            self._at_work += 1
            self._pointer.value = self._sink
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1
                if not self._at_work:
                    self._pointer.value = self._real
                said = self._drain()
            if said:
                _pass_on(said)

    def _drain(self) -> bytes:
        said = b""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._read_end, _READ_BYTES):
                said += part
        return said


def _pass_on(said: bytes) -> None:
    for line in said.splitlines(keepends=True):
        if _DECODER_LINE.match(line):
            _LOG.debug("%s", line.decode(errors="replace").rstrip())
        elif line.strip():
            with contextlib.suppress(OSError):
                os.write(2, line)


# Only glibc has `stderr` in a variable that can be set; on other systems, decoders print to stderr.
_SWITCH = _StdioSwitch() if platform.libc_ver()[0] == "glibc" else None

if "OPENCV_LOG_LEVEL" not in os.environ:
    # OpenCV also logs the errors that it raises or returns, and for a damaged TIFF or WebP many lines.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def decoder_messages_caught() -> contextlib.AbstractContextManager[None]:
    """Returns a context in which decoders print nothing to stderr; any number of threads may use it at once."""
    return _SWITCH.messages_caught() if _SWITCH else contextlib.nullcontext()
