"""The table `frame_changes`: each frame compared with the one before of its source, each pair once.

Only sources that a rule of kind `image_change` looks at are compared. A build takes over every pair that the stored
table has, so one more frame costs one comparison.
"""

import itertools

from imgpipeline.events.configuration import ImageChangeRule, Rules
from imgpipeline.events.day_of_rules import DayOfRules, Row, hash_of, select_rows
from imgpipeline.events.recipe import COMPARISON_VERSION
from imgpipeline.events.values import FrameChange
from imgpipeline.lake.build.summary_inputs import Inputs
from imgpipeline.lake.schema import FRAMES
from imgpipeline.lake.schema.events import EVENT_SCHEMA_VERSION, FRAME_CHANGES
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.lake.storage.manifest import Stored
from imgpipeline.objectstore import ImageReader

_COMPARED = "compared_pairs"
_IN_ORDER = """
SELECT frame_id, source, "timestamp", source_image_path FROM frames
WHERE ? OR list_contains(?::VARCHAR[], source)
ORDER BY source, "timestamp", frame_number, source_kafka_topic, source_kafka_partition, source_kafka_offset, frame_id
"""


class DayFrameChanges(DayOfRules):
    """A day's comparisons of consecutive frames, as an entry of the contract."""

    table = FRAME_CHANGES

    def inputs(self, _rules: Rules, /) -> tuple[str, ...]:
        """Returns the one table that it is made of; images never change."""
        return (FRAMES.name,)

    def recipe(self, rules: Rules, /) -> str:
        """Returns the hash of which sources are compared, and how."""
        return hash_of(EVENT_SCHEMA_VERSION, COMPARISON_VERSION, _compared_sources(rules))

    def rows(self, inputs: Inputs, rules: Rules, stored: Stored | None, /) -> tuple[list[Row], dict[str, str]]:
        """Returns the comparison of each pair, and how many were new."""
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


def read_changes(engine: Engine) -> list[FrameChange]:
    """Returns the comparisons of an opened table `frame_changes`."""
    names = ", ".join(f'"{column.name}"' for column in FRAME_CHANGES.columns if column.name != "day")
    rows = select_rows(engine, f"SELECT {names} FROM frame_changes")  # noqa: S608 - own names
    return [
        FrameChange(**{("image_path" if name == "source_image_path" else name): value for name, value in row.items()})
        for row in rows
    ]


def _compared_sources(rules: Rules) -> list[str] | None:
    """Returns the sources that rules about changes look at, sorted; None: all."""
    wanted = [rule.sources for rule in rules.rule if isinstance(rule, ImageChangeRule)]
    return None if any(not sources for sources in wanted) else sorted({name for several in wanted for name in several})


def _row(change: FrameChange) -> Row:
    row = {column.name: getattr(change, column.name, None) for column in FRAME_CHANGES.columns if column.name != "day"}
    return {**row, "source_image_path": change.image_path}


def _pair_of(row: Row) -> tuple[str, str, str, str]:
    return row["frame_id"], row["source_image_path"], row["previous_frame_id"], row["previous_image_path"]
