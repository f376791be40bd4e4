"""The frames of one day in DuckDB: finds those without an outcome, and makes the result tables.

Every frame of the day's table `frames` is in the result exactly once, or there is no result.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from imgpipeline.lake.schema.redetections import REDETECTED_FRAMES, REDETECTIONS
from imgpipeline.lake.schema.tables import Table
from imgpipeline.lake.storage.engine import Engine, all_rows, identifier, quoted
from imgpipeline.redetect.frames import FrameToProcess

_TO_SEE = """
CREATE OR REPLACE TABLE to_see AS
SELECT frame_id, path, size_bytes, status, gate_reason,
       (row_number() OVER (ORDER BY "timestamp", frame_id) - 1) // {part_frames} AS part
FROM (SELECT *, coalesce(source_image_path, '') AS path FROM day_frames) AS frame
ANTI JOIN covered ON covered.frame_id = frame.frame_id AND covered.source_image_path = frame.path
                 AND covered.gated = (frame.status <> 'processed')
ORDER BY "timestamp", frame_id
"""
_OUTCOMES = """
CREATE OR REPLACE TABLE outcomes AS
SELECT found.* EXCLUDE (filename)
FROM read_parquet({files}, filename = true, hive_partitioning = false) AS found
JOIN day_frames ON day_frames.frame_id = found.frame_id
               AND coalesce(day_frames.source_image_path, '') = found.source_image_path
               AND (day_frames.status <> 'processed') = (found.outcome = 'gated')
QUALIFY row_number() OVER (PARTITION BY found.frame_id ORDER BY found.filename) = 1
"""
_REUSED = """
COPY (
    SELECT frame.frame_id, coalesce(frame.source_image_path, '') AS source_image_path, outcome, code, message,
           coalesce(found.boxes, []) AS detections
    FROM read_parquet({frames}, hive_partitioning = false) AS frame
    LEFT JOIN (
        SELECT frame_id, list(struct_pack(label, class_id, confidence, x, y, width, height)
                              ORDER BY detection_number) AS boxes
        FROM read_parquet({detections}, hive_partitioning = false) GROUP BY frame_id) AS found USING (frame_id)
    WHERE outcome <> 'failed'
) TO {target} (FORMAT parquet)
"""
_OF_MODEL = ("model_used", "model_sha256", "confidence_threshold", "nms_threshold")
_OF_OUTCOME = {"outcome": "outcome", "code": "code", "message": "message",
               "detections": "CAST(len(detections) AS INTEGER)"}  # fmt: skip
_OF_DETECTION = {
    "detection_number": "CAST(place AS INTEGER)",
    **{name: f"box.{name}" for name in ("label", "class_id", "confidence", "x", "y", "width", "height")},
}


class DayFrames:
    """The frames of one day and their outcomes. Not thread-safe."""

    def __init__(self, engine: Engine, frames: Path, day: date) -> None:
        """Opens a day.

        Args:
            engine: DuckDB with a folder.
            frames: The day's Parquet file `frames`.
            day: UTC day.
        """
        self._engine = engine
        engine.run(f"CREATE OR REPLACE VIEW day_frames AS {all_rows(frames, day=day)}")
        self.frames: int = engine.value("SELECT count(*) FROM day_frames")

    def reuse(self, frames: Path, detections: Path, target: Path) -> None:
        """Writes the outcomes of an earlier redetection as a part, without failed ones, which are tried again."""
        places = {"frames": frames, "detections": detections, "target": target}
        self._engine.run(_REUSED.format(**{name: quoted(str(path)) for name, path in places.items()}))

    def find_missing(self, files: Sequence[Path], part_frames: int) -> int:
        """Finds the frames without an outcome in any file, and returns into how many parts they are divided."""
        self._engine.run("CREATE OR REPLACE TABLE covered (frame_id VARCHAR, source_image_path VARCHAR, gated BOOLEAN)")
        if files:
            self._engine.run(
                "INSERT INTO covered SELECT frame_id, source_image_path, outcome = 'gated' "  # noqa: S608 - quoted
                f"FROM read_parquet({_list(files)}, hive_partitioning = false)"
            )
        self._engine.run(_TO_SEE.format(part_frames=part_frames))
        parts: int = self._engine.value("SELECT coalesce(max(part) + 1, 0) FROM to_see")
        return parts

    def missing(self) -> int:
        """Returns the number of frames that `find_missing` found."""
        count: int = self._engine.value("SELECT count(*) FROM to_see")
        return count

    def part(self, number: int) -> list[FrameToProcess]:
        """Returns the frames of one part, in order of time."""
        rows = self._engine.run(
            "SELECT frame_id, path, coalesce(size_bytes, 0), status, gate_reason FROM to_see WHERE part = ? "
            "ORDER BY rowid",
            [number],
        )
        return [FrameToProcess(*row) for row in rows]

    def join(self, files: Sequence[Path]) -> bool:
        """Reads the outcomes of the day's frames from the files; returns whether every frame has one."""
        if not files:
            return self.frames == 0 and self._create_empty()
        self._engine.run(_OUTCOMES.format(files=_list(files)))
        return bool(self._engine.value("SELECT count(*) FROM outcomes") == self.frames)

    def counts(self) -> tuple[dict[str, int], dict[str, int], int]:
        """Returns the frames by outcome, the failed frames by code, and the number of detections."""
        outcomes = self._engine.run("SELECT outcome, count(*) FROM outcomes GROUP BY outcome")
        failed = self._engine.run(
            "SELECT code, count(*) FROM outcomes WHERE outcome = 'failed' GROUP BY code ORDER BY code"
        )
        found: int = self._engine.value("SELECT coalesce(sum(len(detections)), 0)::BIGINT FROM outcomes")
        return dict(outcomes), dict(failed), found

    def frame_rows(self, model: Mapping[str, Any]) -> str:
        """Returns the query of the redetection's object `frames`, without `model` and `day`."""
        selected = _selected(REDETECTED_FRAMES, model, _OF_OUTCOME)
        return (
            f"SELECT {selected} FROM day_frames AS frame JOIN outcomes USING (frame_id) "  # noqa: S608 - own names
            'ORDER BY "timestamp", frame_id'
        )

    def detection_rows(self, model: Mapping[str, Any]) -> str:
        """Returns the query of the redetection's object `detections`: the columns of `detections`, without `day`."""
        selected = _selected(REDETECTIONS, model, _OF_DETECTION)
        return (
            f"SELECT {selected} FROM day_frames AS frame JOIN ("  # noqa: S608 - own names
            "SELECT frame_id, unnest(detections) AS box, generate_subscripts(detections, 1) - 1 AS place FROM outcomes"
            ') USING (frame_id) ORDER BY "timestamp", frame_id, detection_number'
        )

    def _create_empty(self) -> bool:
        boxes = "STRUCT(label VARCHAR, class_id INTEGER, confidence DOUBLE, x DOUBLE, y DOUBLE, width DOUBLE, "
        self._engine.run(
            "CREATE OR REPLACE TABLE outcomes (frame_id VARCHAR, source_image_path VARCHAR, outcome VARCHAR, "
            f"code VARCHAR, message VARCHAR, detections {boxes}height DOUBLE)[])"
        )
        return True


def _selected(table: Table, model: Mapping[str, Any], own: Mapping[str, str]) -> str:
    """Returns the SELECT list of a table: columns of the model, columns in `own`, and all others from the frame."""
    selected = []
    for column in table.columns:
        name = identifier(column.name)
        if column.name in _OF_MODEL:
            selected.append(f"{_literal(model[column.name])} AS {name}")
        elif column.name in own:
            selected.append(f"{own[column.name]} AS {name}")
        elif column.name not in ("model", "day"):
            selected.append(f"frame.{name}")
    return ", ".join(selected)


def _list(files: Sequence[Path]) -> str:
    return "[" + ", ".join(quoted(str(file)) for file in files) + "]"


def _literal(value: object) -> str:
    return quoted(value) if isinstance(value, str) else f"CAST({value!r} AS DOUBLE)"
