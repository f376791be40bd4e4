"""Reads announced images, and waits a moment for images that are still missing."""

from collections.abc import Callable

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from imgpipeline.objectstore import Fetched, ImageReader, ObjectMissingError, ObjectStore
from imgpipeline.settings import Settings

_MISSING_ATTEMPTS = 3
_MISSING_PAUSE_S = 0.3


def open_image_reader(settings: Settings, store: ObjectStore) -> ImageReader:
    """Returns a reader that retries missing images, because some producers announce a little early."""
    return ImageReader(store, settings, _retry_missing)


def _retry_missing(read: Callable[[], Fetched]) -> Fetched:
    attempts = Retrying(
        retry=retry_if_exception_type(ObjectMissingError),
        stop=stop_after_attempt(_MISSING_ATTEMPTS),
        wait=wait_fixed(_MISSING_PAUSE_S),
        reraise=True,
    )
    return attempts(read)
