"""Stores the frames of one session, and makes their announcements."""

from collections.abc import Mapping
from threading import Event
from types import MappingProxyType

from imgpipeline.contracts.capture import Gated
from imgpipeline.contracts.image_keys import ImageKeyTemplate
from imgpipeline.contracts.messages import SESSION, FrameMessage
from imgpipeline.faultpoints import reach
from imgpipeline.settings import Settings
from imgpipeline.sources.derived_images import store_derived
from imgpipeline.sources.images import ImageStore, store_image
from imgpipeline.sources.preparing import Preparation, PreparedFrame, Preparer
from imgpipeline.sources.protocol import CapturedFrame, StoredImage
from imgpipeline.vision.decode import ImageLimits

NOT_STORED = "image_stored"
"""The attribute that is false for a gated frame whose image was not stored."""


class FrameStorer:
    """Prepares and stores frames; thread-safe."""

    def __init__(
        self, settings: Settings, source: str, session: str, store: ImageStore, preparation: Preparation
    ) -> None:
        """Takes whose frames they are, where they go, and what is done to them."""
        self._source = source
        self._session = session
        self._store = store
        self._template = ImageKeyTemplate(settings.image_key_template)
        self._store_gated = preparation.store_gated
        self._derive = preparation.derive
        self._limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
        self._preparer = Preparer(preparation, self._limits)

    def prepare(self, frame: CapturedFrame, before: Event | None, prepared: Event) -> PreparedFrame:
        """Prepares a frame; errors as `Preparer.prepare`.

        Args:
            frame: The captured frame.
            before: Set when the frame before it is prepared; only waited for if frames are compared.
            prepared: Set when this one is prepared or has failed.
        """
        try:
            if before and self._preparer.needs_order:
                before.wait()
            return self._preparer.prepare(self._source, frame)
        finally:
            prepared.set()

    def store(self, frame: CapturedFrame, prepared: PreparedFrame) -> FrameMessage:
        """Stores a prepared frame and returns its announcement; errors as `store_image`."""
        image, gated = prepared.image, prepared.gated
        is_stored = gated is None or self._store_gated
        attributes: dict[str, object] = {} if is_stored else {NOT_STORED: False}
        key = store_image(self._store if is_stored else None, self._source, frame, image, self._template)
        if is_stored and self._derive:
            attributes["derived"] = dict(store_derived(self._store, key, image.data, self._derive, self._limits))
        reach("frame stored", key)
        stored = StoredImage(key, len(image.data), image.sha256, image.width, image.height)
        return self.announcement(frame, stored, gated, attributes)

    def announcement(
        self,
        frame: CapturedFrame,
        image: StoredImage,
        gated: Gated | None = None,
        attributes: Mapping[str, object] = MappingProxyType({}),
    ) -> FrameMessage:
        """Returns the announcement of a frame whose image is stored."""
        return FrameMessage(
            source=self._source,
            image_path=image.path,
            timestamp=frame.timestamp,
            has_own_timestamp=frame.has_own_timestamp,
            frame_number=frame.number,
            width=image.width,
            height=image.height,
            size_bytes=image.size_bytes,
            sha256=image.sha256,
            attributes={**frame.attributes, SESSION: self._session, **attributes},
            clock_source=frame.clock,
            gated=gated,
        )
