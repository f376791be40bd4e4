"""The image of one frame, and the same image with what was found drawn on it."""

from datetime import date

import numpy as np

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError, ConfigurationError, DeadLetterCode, ImageDeletedError, PermanentError
from imgpipeline.lake.query.days import unknown_day
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.ledger import known_days
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.vision.annotate import draw_detections
from imgpipeline.vision.decode import Pixels
from imgpipeline.vision.previews import read_pixels

_NEXT_STEPS = {
    DeadLetterCode.OBJECT_NOT_FOUND: "restore the object; its detections and numbers do not need it",
    DeadLetterCode.OBJECT_FORBIDDEN: "give this access key the right to read it",
    DeadLetterCode.PATH_NOT_ALLOWED: "name its bucket, prefix or folder in IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS",
}


def read_image(store: ObjectStore, settings: Settings, day: date, frame_id: str) -> Pixels:
    """Reads the image of a frame.

    Args:
        store: The object store.
        settings: Which images may be read, and how large they may be.
        day: The frame's UTC day.
        frame_id: The frame; unique within its day.

    Returns:
        uint8 [height, width, 3], BGR, upright.

    Raises:
        ConfigurationError: There is no such day or frame.
        PermanentError: The image is gone, may not be read, or cannot be decoded.
        TransientError: The store does not answer.
    """
    with open_lake(store, settings=settings, days=[day]) as lake:
        return _read(store, settings, _path(lake, store, day, frame_id), frame_id)


def draw_preview(
    store: ObjectStore, settings: Settings, day: date, frame_id: str, *, min_confidence: float = 0.0
) -> Pixels:
    """Reads the image of a frame and draws its detections: boxes with label and confidence.

    Args:
        store: As for `read_image`, and so on.
        settings: As for `read_image`.
        day: As for `read_image`.
        frame_id: As for `read_image`.
        min_confidence: Leave out detections with a lower confidence, 0 to 1.

    Returns:
        uint8 [height, width, 3], BGR, upright.

    Raises:
        ConfigurationError: As for `read_image`.
        PermanentError: As for `read_image`.
        TransientError: As for `read_image`.
    """
    with open_lake(store, settings=settings, days=[day]) as lake:
        path = _path(lake, store, day, frame_id)
        rows = lake.query(
            f"SELECT label, class_id, confidence, x, y, width, height FROM detections WHERE {_is(day, frame_id)} "  # noqa: S608 - text quoted
            f"AND x IS NOT NULL AND confidence >= {float(min_confidence)!r} ORDER BY detection_number"
        ).rows
    found = [Detection(label, number, sure, (x, y, w, h)) for label, number, sure, x, y, w, h in rows]
    return draw_detections(_read(store, settings, path, frame_id), found)


def as_rgb(pixels: Pixels) -> Pixels:
    """Returns BGR pixels as RGB."""
    return np.ascontiguousarray(pixels[:, :, ::-1])


def _is(day: date, frame_id: str) -> str:
    return f"day = DATE '{day}' AND frame_id = {quoted(frame_id)}"


def _path(lake: LakeSession, store: ObjectStore, day: date, frame_id: str) -> str:
    rows = lake.query(f"SELECT source_image_path FROM frames WHERE {_is(day, frame_id)}").rows  # noqa: S608 - text quoted
    if rows and rows[0][0]:
        return str(rows[0][0])
    if rows:
        raise PermanentError(f"The frame {frame_id} of {day} was imported without an image.")
    days = known_days(store)
    if day not in days:
        raise unknown_day(day, days)
    raise ConfigurationError(
        f"{day} has no frame {frame_id!r}.",
        next_step=f'take a frame_id of lake.frames(day="{day}"), or of `imgpipeline frames list --day {day} --json`',
    )


def _read(store: ObjectStore, settings: Settings, path: str, frame_id: str) -> Pixels:
    try:
        return read_pixels(ImageReader(store, settings), path)
    except ImageDeletedError as error:
        raise PermanentError(
            f"The image of the frame {frame_id} cannot be shown. {error}",
            next_step="raise IMGPIPELINE_KEEP_IMAGES_DAYS or IMGPIPELINE_KEEP_IMAGES_BYTES to keep later images longer",
        ) from None
    except BadInputError as error:
        raise PermanentError(
            f"The image of the frame {frame_id} cannot be shown. {error}", next_step=_NEXT_STEPS.get(error.code)
        ) from None
