"""Translates errors of the object store's client into errors of this project.

A message names key, cause and setting, and contains no credential: of the client's text it uses only the first line
(method, URL, status) and the code and message of an S3 answer. The rest (headers, the string that was signed) is
dropped, also from the traceback. `unreachable` explains why a server does not answer at all.
"""

import re

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError, TransientError
from imgpipeline.objectstore.unreachable import explain_unreachable


class ObjectMissingError(PermanentError):
    """There is no object with this key, or there cannot be one: the key is too long, or a part of it is an object."""


class ObjectTooLargeError(PermanentError):
    """An object is larger than the reader allows; its body was not loaded."""


class ForbiddenError(PermanentError):
    """The store refused the request: credentials or permissions are wrong."""


_BUCKET_STEP = (
    "check IMGPIPELINE_STORE_URL (for images elsewhere IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS) and "
    "IMGPIPELINE_S3_ENDPOINT, then run `imgpipeline doctor`"
)
_LOGIN_STEP = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and their rights in the bucket, then run `imgpipeline doctor`"
)
_WRONG_SETTING = {
    "NoSuchBucket": ("there is no such bucket", _BUCKET_STEP),
    "InvalidBucketName": ("the bucket name is not valid", _BUCKET_STEP),
    "InvalidAccessKeyId": ("the store does not know the access key id", _LOGIN_STEP),
    "XAdminUserNotFound": ("the store does not know the access key id", _LOGIN_STEP),  # versitygw's name for it
    "AuthorizationHeaderMalformed": ("the region is wrong", "set IMGPIPELINE_S3_REGION to the bucket's region"),
    "PermanentRedirect": ("the bucket is in another region", "set IMGPIPELINE_S3_REGION to the bucket's region"),
}
"""S3 error codes that only a changed setting can fix: reason and next step."""
_REFUSALS = {
    "SignatureDoesNotMatch": ("the secret key is wrong", _LOGIN_STEP),
    "ExpiredToken": ("the session token has expired", "set a new AWS_SESSION_TOKEN with its keys"),
    "InvalidToken": ("the session token is wrong", "set AWS_SESSION_TOKEN, or unset it"),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set the clock"),
    "AccessDenied": ("the store refuses access", _LOGIN_STEP),
}
_IMPOSSIBLE_KEY = re.compile(
    r"KeyTooLong|File name too long|os error 36|Not a directory|os error 20|Filenames containing trailing"
)
"""Keys that no object can have: too long, below another object, or (folder) with the ending of a staging file."""
_FULL = re.compile(r"No space left|os error 28|Disk quota exceeded|os error 122")


def translate(error: Exception, action: str, where: str) -> ImgpipelineError:
    """Returns the error to raise for a failure of the client.

    Args:
        error: What the client raised.
        action: What was tried: `read`, `write`, `list`, `delete`.
        where: Store and key, without secrets.

    Returns:
        `ConfigurationError` for a missing bucket, an unknown key id, a wrong region or protocol, `ForbiddenError` for a
        refusal, `ObjectMissingError` for a missing object, `PermanentError` for a full disk, a key that cannot be
        written or an answer that means nothing here, else `TransientError`.
    """
    text = str(error)
    answer = re.search(r"<Code>(\w+)</Code>", text)
    code = answer[1] if answer else ""
    what = f"Could not {action} {where}"
    if code in _WRONG_SETTING:
        reason, step = _WRONG_SETTING[code]
        return ConfigurationError(f"{what}: {reason} ({code}).", next_step=step)
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or code in _REFUSALS
    if refused or re.search(r"status code: 40[13]\b", text):
        reason, step = _REFUSALS.get(code, _REFUSALS["AccessDenied"])
        if not code and "os error" in text:
            reason, step = _cause(text), "let this user work there, or change IMGPIPELINE_STORE_URL"
        return ForbiddenError(f"{what}: {reason} ({code or 'refused'}).", next_step=step)
    return (
        _of_the_object(error, action, what)
        or _of_the_disk(text, what)
        or explain_unreachable(text, what)
        or _of_the_store(text, code, what)
    )


def _of_the_object(error: Exception, action: str, what: str) -> PermanentError | None:
    text = str(error)
    if _IMPOSSIBLE_KEY.search(text):
        if action in ("read", "delete"):
            return ObjectMissingError(f"{what}: there can be no such object.")
        return PermanentError(f"{what}: the store cannot hold an object of that name.")
    if isinstance(error, FileNotFoundError) and re.search(r"<Code>(?!NoSuchKey|NotFound)", text) is None:
        return ObjectMissingError(f"{what}: there is no such object.")
    return None


def _of_the_disk(text: str, what: str) -> PermanentError | None:
    if _FULL.search(text):
        return PermanentError(
            f"{what}: the disk is full.",
            next_step="free space there (IMGPIPELINE_STORE_URL names it); nothing was lost",
        )
    if "Permission denied" in text or "Read-only file system" in text:
        step = "let this user write there, or change IMGPIPELINE_STORE_URL"
        return ForbiddenError(f"{what}: {_cause(text)}", next_step=step)
    return None


def _of_the_store(text: str, code: str, what: str) -> ImgpipelineError:
    # What a client did wrong stays wrong (except 408 and 429); the rest may pass.
    if re.search(r"status code: 4(?!08|29|09)\d\d\b", text) and code != "RequestTimeout":
        return PermanentError(f"{what}: {_cause(text)}", next_step=_BUCKET_STEP)
    return TransientError(
        f"{what}: {_cause(text)}",
        next_step="check that IMGPIPELINE_STORE_URL and IMGPIPELINE_S3_ENDPOINT name a store that runs, "
        "then run `imgpipeline doctor`",
    )


def client_errors() -> tuple[type[Exception], ...]:
    """Returns what the client raises when the store, not the caller, is at fault."""
    return (BaseError, OSError)


def _cause(text: str) -> str:
    line = text.split("\n", 1)[0].split(": <?xml", 1)[0].strip()
    answer = re.search(r"<Code>(\w+)</Code>\s*<Message>([^<]*)</Message>", text)
    line = f"{line} ({answer[1]}: {answer[2]})" if answer else line
    return line if len(line) <= 400 else line[:397] + "..."
