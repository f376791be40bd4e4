"""Stores the image of the difference of an image change under the event's id, once."""

from imgpipeline.contracts.keys import event_image_key
from imgpipeline.events.values import Event
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings


def store_difference(store: ObjectStore, settings: Settings, event: Event) -> str | None:
    """Stores the image of the difference and returns its key; None if no two images were compared.

    Raises:
        TransientError: The store does not answer.
        ForbiddenError: The store refuses everything.
    """
    if event.kind != "image_change" or event.value is None:
        return None
    from imgpipeline.events.comparing import draw_difference  # noqa: PLC0415 - loads OpenCV

    key = event_image_key(event.timestamp.date(), event.event_id, "difference")
    if store.head(key) is None:
        previous, path = event.image_paths
        jpeg = draw_difference(ImageReader(store, settings), path, previous)
        if jpeg is None:
            return None
        store.put(key, jpeg)
    return key
