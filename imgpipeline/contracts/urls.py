"""Validates the URLs of stores, image locations and S3 servers.

Hadoop and Spark write `s3a://` for `s3://`. Both are accepted everywhere, and `s3://` is stored.
"""

from urllib.parse import unquote, urlsplit


def as_s3_url(text: str) -> str:
    """Replaces `s3a://` at the start by `s3://`; returns any other text unchanged."""
    return f"s3://{text.removeprefix('s3a://')}" if text.startswith("s3a://") else text


def check_store_url(text: str) -> str:
    """Returns the URL of a store in its stored form.

    Raises:
        ValueError: It is neither `s3://bucket/prefix` nor `file:///folder`, or has credentials, `?` or `#`.
    """
    url = as_s3_url(text)
    parts = urlsplit(url)
    named = parts.netloc if parts.scheme == "s3" else parts.path.strip("/") and not parts.netloc
    if not _is_plain(url, "s3", "file") or not named:
        raise ValueError("expected s3://bucket/prefix or file:///folder, without credentials, `?` and `#`")
    return url.rstrip("/")


def check_image_location(text: str) -> str:
    """Returns a bucket, prefix or folder with images in its stored form.

    Raises:
        ValueError: It is neither `s3://bucket/prefix` nor `file:///folder`.
    """
    try:
        return check_store_url(text)
    except ValueError:
        raise ValueError("expected s3://bucket/prefix or file:///folder, separated by commas") from None


def folder_of(url: str) -> str | None:
    """Returns the folder of a `file:///` URL, without a slash at the end; None for any other URL."""
    return unquote(url.removeprefix("file://")).rstrip("/") if url.startswith("file:///") else None


def check_endpoint(text: str) -> str:
    """Returns the URL of an S3 server unchanged.

    Raises:
        ValueError: It is not `http://host:port` or `https://host`.
    """
    if not (_is_plain(text, "http", "https") and urlsplit(text).hostname):
        raise ValueError("expected http://host:port or https://host, without user name and password")
    return text


def _is_plain(url: str, *schemes: str) -> bool:
    """Returns whether a URL has one of the schemes, and neither login nor query nor fragment."""
    return url.startswith(tuple(f"{scheme}://" for scheme in schemes)) and not set("@?#") & set(url)
