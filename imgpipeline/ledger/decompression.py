"""Decompressing many small objects fast: making a decompressor takes longer than using it for a small segment."""

import threading

import zstandard


class _OfThread(threading.local):
    """A decompressor is for one thread at a time."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


_of_this_thread = _OfThread()


def decompress(data: bytes, most_bytes: int) -> bytes:
    """Returns what a Zstandard frame holds.

    Args:
        data: Exactly one frame, which says how large its content is.
        most_bytes: A frame that claims more is refused before anything is allocated.

    Raises:
        zstandard.ZstdError: The bytes are not such a frame, or are damaged.
        ValueError: It claims more than `most_bytes`.
    """
    if zstandard.frame_content_size(data) > most_bytes:
        raise ValueError(f"it claims more bytes than {most_bytes}")
    return bytes(_of_this_thread.decompressor.decompress(data, max_output_size=most_bytes, allow_extra_data=False))
