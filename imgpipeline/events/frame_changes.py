"""The table `frame_changes`: each frame compared with the previous one of its source; and the difference images.

Only sources of rules of kind `image_change` are compared. A build copies every pair from the stored table, so a new
frame costs one comparison.
"""

import itertools

from imgpipeline.contracts.keys import event_image_key
from imgpipeline.events.configuration import ImageChangeRule, Rules
from imgpipeline.events.day_of_rules import DayOfRules, Row
from imgpipeline.events.recipe import COMPARISON_VERSION, hash_of
from imgpipeline.events.values import Event, FrameChange
from imgpipeline.lake.build.summary_inputs import Inputs
from imgpipeline.lake.schema import FRAMES
from imgpipeline.lake.schema.events import EVENT_SCHEMA_VERSION, FRAME_CHANGES
from imgpipeline.lake.storage.manifest import Stored
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings

_COMPARED = "compared_pairs"
_IN_ORDER = """
SELECT frame_id, source, "timestamp", source_image_path FROM frames
WHERE ? OR list_contains(?::VARCHAR[], source)
ORDER BY source, "timestamp", frame_number, source_kafka_topic, source_kafka_partition, source_kafka_offset, frame_id
"""


class DayFrameChanges(DayOfRules):
    """The comparisons of consecutive frames of a day."""

    table = FRAME_CHANGES

    def inputs(self, _rules: Rules, /) -> tuple[str, ...]:
        """Returns its only table, `frames`; images never change."""
        return (FRAMES.name,)

    def recipe(self, rules: Rules, /) -> str:
        """Returns the hash of the compared sources and of the version of the comparison."""
        return hash_of(EVENT_SCHEMA_VERSION, COMPARISON_VERSION, _compared_sources(rules))

    def rows(self, inputs: Inputs, rules: Rules, stored: Stored | None, /) -> tuple[list[Row], dict[str, str]]:
        """Returns the comparison of each pair, and the number of new comparisons."""
        from imgpipeline.events.comparing import StoredFrame, compare_pairs  # noqa: PLC0415 - loads OpenCV

        sources = _compared_sources(rules)
        frames = [StoredFrame(*row) for row in inputs.engine.run(_IN_ORDER, [sources is None, sources or []])]
        pairs = [(frame, before) for before, frame in itertools.pairwise(frames) if before.source == frame.source]
        known = {_pair_of(row): row for row in self.stored_rows(inputs.engine, stored)}
        new = [
            pair for pair in pairs
            if (pair[0].frame_id, pair[0].image_path, pair[1].frame_id, pair[1].image_path) not in known
        ]  # fmt: skip
        for change in compare_pairs(ImageReader(self.store, self.settings), new):
            row = _row(change)
            known[_pair_of(row)] = row
        rows = [known[a.frame_id, a.image_path, b.frame_id, b.image_path] for a, b in pairs]
        return rows, {_COMPARED: str(len(new))}


def _compared_sources(rules: Rules) -> list[str] | None:
    """Returns the sources of the rules about image changes, sorted; None: all."""
    wanted = [rule.sources for rule in rules.rule if isinstance(rule, ImageChangeRule)]
    return None if any(not sources for sources in wanted) else sorted({name for several in wanted for name in several})


def _row(change: FrameChange) -> Row:
    row = {column.name: getattr(change, column.name, None) for column in FRAME_CHANGES.columns if column.name != "day"}
    return {**row, "source_image_path": change.image_path}


def _pair_of(row: Row) -> tuple[str, str, str, str]:
    return row["frame_id"], row["source_image_path"], row["previous_frame_id"], row["previous_image_path"]


def store_difference(store: ObjectStore, settings: Settings, event: Event) -> str | None:
    """Stores the difference image of an image change under its event id, once, and returns the key.

    Returns:
        The key; None for other events, and if an image is no longer available.

    Raises:
        TransientError: The store does not answer.
        ForbiddenError: The store refuses access.
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
