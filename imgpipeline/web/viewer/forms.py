"""Reads the forms that pages send."""

from urllib.parse import parse_qs

from fastapi import HTTPException, Request

from imgpipeline.errors import UsageError

_MOST_BYTES = 16 * 1024


async def read_form(request: Request) -> dict[str, str]:
    """Returns the fields of a form.

    Raises:
        HTTPException: 413 if it is too large.
        UsageError: It is no form in UTF-8.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, f"a form has at most {_MOST_BYTES:,} bytes")
    try:
        fields = parse_qs(body.decode(), strict_parsing=bool(body), errors="strict", max_num_fields=10)
    except ValueError:
        raise UsageError("The form cannot be read.", next_step="send it from its page") from None
    return {name: values[0] for name, values in fields.items()}
