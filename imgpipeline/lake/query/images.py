"""Reads the image of a frame, also with its detections drawn on it, and the best image of a track."""

from datetime import date, datetime

import numpy as np

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError, ConfigurationError, DeadLetterCode, ImageDeletedError, PermanentError
from imgpipeline.lake.query.days import unknown_day
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.ledger.days import known_days
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.vision.annotate import draw_detections, read_pixels
from imgpipeline.vision.decode import Pixels

_NEXT_STEPS = {
    DeadLetterCode.OBJECT_NOT_FOUND: "restore the object; detections and counts do not need it",
    DeadLetterCode.OBJECT_FORBIDDEN: "allow this access key to read it",
    DeadLetterCode.PATH_NOT_ALLOWED: "name its bucket, prefix or folder in IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS",
}


def read_image(store: ObjectStore, settings: Settings, day: date, frame_id: str) -> Pixels:
    """Reads the image of a frame.

    Args:
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
    """Reads the image of a frame like `read_image`, and draws its detections with at least this confidence, 0 to 1."""
    with open_lake(store, settings=settings, days=[day]) as lake:
        path = _path(lake, store, day, frame_id)
        rows = lake.query(
            f"SELECT label, class_id, confidence, x, y, width, height FROM detections WHERE {_is(day, frame_id)} "  # noqa: S608 - text quoted
            f"AND x IS NOT NULL AND confidence >= {float(min_confidence)!r} ORDER BY detection_number"
        ).rows
    found = [Detection(label, number, sure, (x, y, w, h)) for label, number, sure, x, y, w, h in rows]
    return draw_detections(_read(store, settings, path, frame_id), found)


def draw_track(store: ObjectStore, settings: Settings, track_id: str) -> Pixels:
    """Reads the best image of a track, the largest and sharpest, and draws the object on it.

    Args:
        settings: Which images may be read, and how large they may be.

    Returns:
        uint8 [height, width, 3], BGR, upright.

    Raises:
        ConfigurationError: There is no such track.
        PermanentError: The image is gone, may not be read, or cannot be decoded.
        TransientError: The store does not answer.
    """
    try:
        # source/group/slice/number. Source and group may contain slashes; the slice starts on the track's day.
        day = datetime.strptime(track_id.rsplit("/", 2)[-2], "%Y%m%dT%H%M").date()  # noqa: DTZ007 - only the day
    except (IndexError, ValueError):
        raise _unknown_track(track_id) from None
    with open_lake(store, settings=settings, days=[day]) as lake:
        rows = lake.query(
            "SELECT t.best_frame_id, t.label, d.class_id, d.confidence, d.x, d.y, d.width, d.height FROM tracks AS t "  # noqa: S608 - text quoted
            "JOIN (FROM detections UNION ALL FROM weak_detections) AS d "
            "ON d.frame_id = t.best_frame_id AND d.detection_number = t.best_detection_number "
            f"WHERE t.track_id = {quoted(track_id)}"
        ).rows
        if not rows:
            raise _unknown_track(track_id)
        ((frame_id, label, number, sure, x, y, w, h),) = rows
        path = _path(lake, store, day, frame_id)
    return draw_detections(_read(store, settings, path, frame_id), [Detection(label, number, sure, (x, y, w, h))])


def _unknown_track(track_id: str) -> ConfigurationError:
    return ConfigurationError(
        f"There is no track {track_id!r}; expected one such as gate/person/20260109T1150/3.",
        next_step="`imgpipeline tracks list --day 2026-01-09` lists tracks",
    )


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
    except BadInputError as error:
        raise image_error(f"the frame {frame_id}", error) from None


def image_error(of: str, error: BadInputError) -> PermanentError:
    """Returns the error for an image that cannot be shown, with what to do about it.

    Args:
        of: Subject of the image, such as `the frame abc`.
        error: Why it cannot be read.
    """
    step = _NEXT_STEPS.get(error.code)
    if isinstance(error, ImageDeletedError):
        step = "raise IMGPIPELINE_KEEP_IMAGES_DAYS or IMGPIPELINE_KEEP_IMAGES_BYTES to keep later images longer"
    return PermanentError(f"The image of {of} cannot be shown. {error}", next_step=step)
