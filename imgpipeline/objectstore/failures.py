"""Translates errors of the object store's client into errors of this project, and retries transient ones.

A message names key, cause and setting, and contains no credential: of the client's text it uses only the first line
(method, URL, status) and the code and message of an S3 answer. The rest (headers, the string that was signed) is
dropped, also from the traceback.
"""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError, TransientError

Result = TypeVar("Result")
_log = logging.getLogger(__name__)
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_FIRST_ANSWER_S = 10.0
"""A restart of the server ends within this time; a server that does not exist is named soon."""


CLIENT_ERRORS = (BaseError, OSError)
"""What the client raises when the store, not the caller, is at fault."""


class UnreachableStoreError(TransientError):
    """A request got no answer from the store's server."""


class ObjectMissingError(PermanentError):
    """No object has this key, or none can have it: the key is too long, or a part of it is an object."""


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
        written or an unexpected answer, else `TransientError`.
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
            return ObjectMissingError(f"{what}: no object can have this name.")
        return PermanentError(f"{what}: no object can have this name.")
    if isinstance(error, FileNotFoundError) and re.search(r"<Code>(?!NoSuchKey|NotFound)", text) is None:
        return ObjectMissingError(f"{what}: there is no such object.")
    return None


def _of_the_disk(text: str, what: str) -> PermanentError | None:
    if _FULL.search(text):
        return PermanentError(
            f"{what}: the disk is full.",
            next_step="free space on the disk of IMGPIPELINE_STORE_URL; nothing was lost",
        )
    if "Permission denied" in text or "Read-only file system" in text:
        step = "let this user write there, or change IMGPIPELINE_STORE_URL"
        return ForbiddenError(f"{what}: {_cause(text)}", next_step=step)
    return None


def _of_the_store(text: str, code: str, what: str) -> ImgpipelineError:
    # A retry cannot help against a client error (4xx except 408, 409 and 429).
    if re.search(r"status code: 4(?!08|29|09)\d\d\b", text) and code != "RequestTimeout":
        return PermanentError(f"{what}: {_cause(text)}", next_step=_BUCKET_STEP)
    return TransientError(
        f"{what}: {_cause(text)}",
        next_step="check that IMGPIPELINE_STORE_URL and IMGPIPELINE_S3_ENDPOINT name a running store, "
        "then run `imgpipeline doctor`",
    )


def _cause(text: str) -> str:
    line = text.split("\n", 1)[0].split(": <?xml", 1)[0].strip()
    answer = re.search(r"<Code>(\w+)</Code>\s*<Message>([^<]*)</Message>", text)
    line = f"{line} ({answer[1]}: {answer[2]})" if answer else line
    return line if len(line) <= 400 else line[:397] + "..."


_SETTING = "IMGPIPELINE_S3_ENDPOINT"
_START = f"start the S3 server, or set {_SETTING} to the address where it listens"
_ADDRESS = f"set {_SETTING} to an address that this machine can reach"
_HTTP = f"set {_SETTING} to http:// instead of https://, or to the server's TLS port"
_HTTPS = f"check the server's log; if it expects TLS, set {_SETTING} to https://"
_DOCTOR = ", then run `imgpipeline doctor`"
_INSTANCE_METADATA = "169.254.169.254"
"""Where the client requests the credentials of a role when none are set, on EC2 and similar machines."""


@dataclass(frozen=True, slots=True)
class _Cause:
    pattern: str
    """Regular expression for the client's text; its group is inserted into the reason."""
    reason: str
    step: str
    may_pass: bool = True
    """Whether a retry can help without a changed setting."""


_CAUSES = (
    _Cause(r"ConnectionRefused", "the port is closed: nothing listens there", _START),
    _Cause(r"dns error", "the host name cannot be resolved", f"set {_SETTING} to a name that this machine resolves"),
    _Cause(
        r"InvalidCertificate\(\s*(\w+)",
        "its TLS certificate is not accepted ({0})",
        "set SSL_CERT_FILE to the PEM file of the authority that signed it, or have the certificate replaced",
        may_pass=False,
    ),
    _Cause(r"InvalidContentType|InvalidMessage", "it does not speak TLS on this port", _HTTP, may_pass=False),
    _Cause(r"tls handshake eof", "it closed the connection during the TLS handshake", _HTTP),
    _Cause(r"Parse\(", "what listens there does not speak HTTP", _START, may_pass=False),
    _Cause(r"(?:Network|Host)Unreachable", "there is no route to it", _ADDRESS),
    _Cause(r"kind: Timeout|TimedOut", "no answer in time (a firewall, a wrong address, or a hanging server)", _START),
    _Cause(r"ConnectionReset|IncompleteMessage|BrokenPipe", "it closed the connection without an answer", _HTTPS),
)


def explain_unreachable(text: str, what: str) -> ImgpipelineError | None:
    """Finds out why a request got no answer.

    The client says "error sending request" in all of these cases. The cause is in a later part of its text.

    Returns:
        `ConfigurationError` if only a changed setting helps, `UnreachableStoreError` if the server may come back, None
        if the server did answer.
    """
    if "error sending request" not in text:
        return None
    url = re.search(r"Error performing [A-Z]+ (\S+) in [\d.]+\w+", text)
    found = next(((cause, said) for cause in _CAUSES if (said := re.search(cause.pattern, text))), None)
    if url is None or found is None:
        return None
    cause, said = found
    server = urlsplit(url[1])
    if server.hostname == _INSTANCE_METADATA:
        return ConfigurationError(
            f"{what}: no credentials are set, and this machine has no role that gives some.",
            next_step=f"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY{_DOCTOR}",
        )
    reason = cause.reason.format(*said.groups())
    port = server.port or (443 if server.scheme == "https" else 80)
    message = f"{what}: the S3 server at {server.scheme}://{server.hostname}:{port} cannot be reached: {reason}."
    kind = UnreachableStoreError if cause.may_pass else ConfigurationError
    return kind(message, next_step=cause.step + _DOCTOR)


def persist(attempt: Callable[[], Result], *, patience_s: float, has_answered: bool) -> Result:
    """Repeats a call that fails transiently; the only place where calls to the store are retried.

    The client's own retries are off. They cover neither the body of an answer, nor a deletion or conditional put whose
    connection was reset.

    Args:
        attempt: The call. A failed call may have taken effect.
        patience_s: Time after the first failure in which new attempts may start; 0: no retry.
        has_answered: Whether the server has been reached before; if not, it is waited for no longer than a restart.

    Returns:
        The result of the call.

    Raises:
        TransientError: The last attempt failed transiently too.
    """
    try:
        return attempt()
    except TransientError as error:
        if isinstance(error, UnreachableStoreError) and not has_answered:
            patience_s = min(patience_s, _FIRST_ANSWER_S)
        if patience_s <= 0:
            raise
        _log.warning("%s Trying again for up to %g s.", error.message, patience_s)
    time.sleep(_FIRST_PAUSE_S)
    repeated = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_delay(patience_s),
        wait=wait_exponential_jitter(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, jitter=_FIRST_PAUSE_S),
        reraise=True,
    )
    return repeated(attempt)
