"""Retries calls to the store that fail transiently; the only place where store calls are retried.

The client's own retries are off: they cover neither the body of an answer, nor a deletion or a conditional put whose
connection was reset.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from imgpipeline.errors import TransientError

Result = TypeVar("Result")
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_log = logging.getLogger(__name__)


def persist(attempt: Callable[[], Result], *, patience_s: float) -> Result:
    """Calls until it succeeds or fails for good.

    Args:
        attempt: The call. It may have taken effect although it failed.
        patience_s: No further attempt starts this long after the first failure; 0: no second attempt.

    Returns:
        What the call returns.

    Raises:
        TransientError: Every attempt raised one; this is the last.
    """
    try:
        return attempt()
    except TransientError as error:
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
