"""What went wrong at the object store, as one of this project's errors.

Owns the translation. It promises that a message names key and cause, and no credential: only the first line of the
client's own text is used, which holds method, URL and status, never a header.
"""

import re

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError, TransientError


class ObjectMissingError(PermanentError):
    """There is no object under a key (or, where nothing at all can be read: no such bucket, or a wrong key id)."""


class ObjectTooLargeError(PermanentError):
    """An object is larger than the reader allows; its body was not loaded."""


class ForbiddenError(PermanentError):
    """The store refused the request: credentials or permissions are wrong."""


_SETTINGS_STEP = "check IMGPIPELINE_STORE_URL and IMGPIPELINE_S3_ENDPOINT, then run `imgpipeline doctor`"
_LOGIN_STEP = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and their rights in the bucket, then run `imgpipeline doctor`"
)


def translate(error: Exception, action: str, where: str) -> ImgpipelineError:  # noqa: PLR0911 - one row a cause
    """Returns the error to raise for a failure of the client.

    Args:
        error: What the client raised.
        action: What was tried: `read`, `write`, `list`.
        where: Store and key, without secrets.

    Returns:
        `ConfigurationError` for a missing bucket or unknown key id, `ForbiddenError` for a refusal,
        `ObjectMissingError` for a missing object, `PermanentError` for a full disk or a folder that may not be
        written, else `TransientError`.
    """
    text = str(error)
    code = (re.search(r"<Code>(\w+)</Code>", text) or [None, ""])[1]
    cause = _first_line(text)
    what = f"Could not {action} {where}"
    if code == "NoSuchBucket":
        return ConfigurationError(f"{what}: there is no such bucket.", next_step=_SETTINGS_STEP)
    if code == "InvalidAccessKeyId":
        return ConfigurationError(f"{what}: the store does not know the access key id.", next_step=_LOGIN_STEP)
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or code in {
        "AccessDenied",
        "SignatureDoesNotMatch",
    }
    if refused or re.search(r"status code: 40[13]\b", text):
        reason = "the secret key is wrong" if code == "SignatureDoesNotMatch" else "the store refuses access"
        return ForbiddenError(f"{what}: {reason} ({code or '403'}).", next_step=_LOGIN_STEP)
    if isinstance(error, FileNotFoundError):
        return ObjectMissingError(f"{what}: there is no such object.")
    if "No space left" in text or "os error 28" in text:
        return PermanentError(f"{what}: the disk is full.", next_step="free space there; nothing was lost")
    if "Permission denied" in text or "Read-only file system" in text:
        return ForbiddenError(
            f"{what}: {cause}", next_step="let this user write there, or change IMGPIPELINE_STORE_URL"
        )
    return TransientError(f"{what}: {cause}", next_step="run `imgpipeline doctor`")


def client_errors() -> tuple[type[Exception], ...]:
    """Returns what the client raises when the store, not the caller, is at fault."""
    return (BaseError, OSError)


def _first_line(text: str) -> str:
    line = text.split("\n", 1)[0].strip()
    return line if len(line) <= 300 else line[:297] + "..."
