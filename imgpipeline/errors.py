"""The errors of imgpipeline: what failed, and what to do next.

Three families decide what happens to an offset:

* `TransientError`: the environment failed in a way that may pass. It is retried, then the run fails; no offset moves.
* `PermanentError`: the environment or a setting is wrong. The run fails; no offset moves.
* `BadInputError`: the record or its image is invalid. It becomes a dead letter with a code, and the stream continues.

A message says what was wrong, what was found, what was expected, and the next command to run. It never contains a
secret.
"""

from enum import StrEnum


class DeadLetterCode(StrEnum):
    """Why one offset could not become a frame. Only faults of the input itself have a code."""

    INVALID_MESSAGE = "INVALID_MESSAGE"
    """Not JSON, not UTF-8, a field missing or of the wrong type, an empty value."""
    PATH_NOT_ALLOWED = "PATH_NOT_ALLOWED"
    """The image path leaves the allowed buckets and prefixes; it was not opened."""
    TIMESTAMP_OUT_OF_RANGE = "TIMESTAMP_OUT_OF_RANGE"
    """The frame's time is outside the accepted window."""
    TOO_LARGE = "TOO_LARGE"
    """The Kafka record or the image object is larger than the limit in bytes."""
    OBJECT_NOT_FOUND = "OBJECT_NOT_FOUND"
    """The announced image is not in the store, also after retries."""
    OBJECT_FORBIDDEN = "OBJECT_FORBIDDEN"
    """The store refuses this one image while the pipeline's own prefix can be read."""
    EMPTY_OBJECT = "EMPTY_OBJECT"
    """The image object has no bytes."""
    DECODE_FAILED = "DECODE_FAILED"
    """The bytes are not a picture that can be decoded, or the picture is cut short."""
    IMAGE_TOO_LARGE = "IMAGE_TOO_LARGE"
    """The picture's header claims more pixels than the limit; it was not decoded."""
    HASH_MISMATCH = "HASH_MISMATCH"
    """The image is not the one announced: its size or sha256 differs from the message."""
    PROCESS_CRASHED = "PROCESS_CRASHED"
    """The frame crashed its process repeatedly, while no other frame was processed there."""
    BAD_ROW = "BAD_ROW"
    """A row or document of an import that is not a frame: not CSV or JSON, a field missing or out of range."""


class ImgpipelineError(Exception):
    """Base of all errors that this project raises on purpose.

    Attributes:
        message: What was wrong, what was found, what was expected.
        next_step: What the reader can do about it (a command or a setting), or None.
    """

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message} Next: {self.next_step}" if self.next_step else self.message


class TransientError(ImgpipelineError):
    """The environment failed in a way that may be temporary: a time-out, a 503, a broker that restarts."""


class PermanentError(ImgpipelineError):
    """The environment is wrong and stays wrong until someone acts: a damaged segment, a refused login."""


class ConfigurationError(PermanentError):
    """A setting is missing or wrong; the message names it."""


class UsageError(ConfigurationError):
    """A command or function was called with an invalid argument; a command ends with exit status 2."""


class LedgerError(PermanentError):
    """The ledger and the log contradict each other, or a segment cannot be read. Nothing is skipped silently."""


class BadInputError(ImgpipelineError):
    """One record or its image is wrong; its offset becomes a dead letter.

    Attributes:
        code: The dead letter's code.
    """

    def __init__(self, code: DeadLetterCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class ImageDeletedError(BadInputError):
    """The image is gone because image retention deleted images of its source and day; the message says when."""

    def __init__(self, message: str) -> None:
        super().__init__(DeadLetterCode.OBJECT_NOT_FOUND, message)
