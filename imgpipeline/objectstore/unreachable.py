"""Why no S3 server answers at the endpoint: refused, not resolved, silent, or another protocol.

The client says "error sending request" for all of these. The cause is in a part of its text that messages leave out,
and is parsed from there.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from imgpipeline.errors import ConfigurationError, ImgpipelineError, TransientError

_SETTING = "IMGPIPELINE_S3_ENDPOINT"
_START = f"start the S3 server, or set {_SETTING} to where it listens"
_ADDRESS = f"set {_SETTING} to an address that this machine can reach"
_HTTP = f"set {_SETTING} to http:// instead of https://, or to the server's TLS port"
_HTTPS = f"check the server's log; if it expects TLS, set {_SETTING} to https://"
_DOCTOR = ", then run `imgpipeline doctor`"
_INSTANCE_METADATA = "169.254.169.254"
"""Where the client asks for a role's credentials when none are set, on EC2 and alike."""


@dataclass(frozen=True, slots=True)
class _Cause:
    pattern: str
    """Found in the client's text; a group is put into the reason."""
    reason: str
    """What it means."""
    step: str
    """What to do next."""
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
    _Cause(
        r"kind: Timeout|TimedOut", "no answer in time (a firewall, a wrong address, or a server that hangs)", _START
    ),
    _Cause(r"ConnectionReset|IncompleteMessage|BrokenPipe", "it closed the connection without an answer", _HTTPS),
)


def explain_unreachable(text: str, what: str) -> ImgpipelineError | None:
    """Finds out why a request got no answer.

    Args:
        text: All that the client said of the failure.
        what: What was tried, to begin the message with: `Could not read s3://bucket/key`.

    Returns:
        `ConfigurationError` if only a changed setting helps, `TransientError` if the server may come back, None
        if it did answer.
    """
    if "error sending request" not in text:
        return None
    url = re.search(r"Error performing [A-Z]+ (\S+) in [\d.]+\w+", text)
    cause = next((cause for cause in _CAUSES if re.search(cause.pattern, text)), None)
    if url is None or cause is None:
        return None
    server = urlsplit(url[1])
    if server.hostname == _INSTANCE_METADATA:
        return ConfigurationError(
            f"{what}: no credentials are set, and this machine has no role that gives some.",
            next_step=f"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY{_DOCTOR}",
        )
    found = re.search(cause.pattern, text)
    reason = cause.reason.format(*(found.groups() if found else ()))
    port = server.port or (443 if server.scheme == "https" else 80)
    message = f"{what}: the S3 server at {server.scheme}://{server.hostname}:{port} cannot be reached: {reason}."
    kind = TransientError if cause.may_pass else ConfigurationError
    return kind(message, next_step=cause.step + _DOCTOR)
