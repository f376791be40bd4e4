"""The columns of redetections and of comparisons of models."""

from dataclasses import replace

from imgpipeline.lake.schema.tables import DETECTIONS, FRAMES, Column, Table

REDETECTION_SCHEMA_VERSION = 2
"""Version of these columns and of the meaning of an outcome. It is part of the recipes, so raising it makes every
redetection process its images again."""
_DAY = Column("day", "DATE", "UTC", "Day of the frame's own time; in Parquet it is part of the path.")
_MODEL = Column(
    "model", "VARCHAR", "`demo`, `demo@0.3`, `demo@bf16`", "The model of this redetection; in Parquet part of the path."
)
_FOUND = {"detection_number", "label", "class_id", "confidence", "x", "y", "width", "height", "model_used",
          "model_sha256", "confidence_threshold", "nms_threshold"}  # fmt: skip
"""Columns that the model fills; the others are copied from the frame."""


def _taken_over(column: Column) -> Column:
    made_of = () if column.name in {*_FOUND, "day"} else (f"frames.{column.name}",)
    return replace(column, made_of=made_of)


def _of_frame(name: str) -> Column:
    return _taken_over(next(column for column in FRAMES.columns if column.name == name))


REDETECTED_FRAMES = Table(
    "redetected_frames",
    "one frame of a day, with its outcome when another model processed its image again",
    (
        _MODEL,
        _DAY,
        *map(_of_frame, ("frame_id", "source", "timestamp", "frame_number", "source_image_path")),
        Column(
            "outcome",
            "VARCHAR",
            "`processed`, `gated`, `failed`",
            "Whether the model processed it: `gated` as live, `failed` if the image is no longer available.",
        ),
        Column("code", "VARCHAR", "", "Why it failed (a code of dead letters) or was gated; NULL if it was processed."),
        Column("message", "VARCHAR", "", "What was wrong, or NULL."),
        Column("detections", "INTEGER", "detections", "Number of objects found."),
        *map(_of_frame, ("model_used", "model_sha256", "confidence_threshold", "nms_threshold")),
    ),
)
"""`redetections/model=…/day=…/frames.parquet`."""

REDETECTIONS = Table(
    "redetections",
    "one object that another model found in one frame; except for `model`, the columns are those of `detections`, "
    "without `precision`",
    (_MODEL, *(_taken_over(column) for column in DETECTIONS.columns if column.name != "precision")),
)
"""`redetections/model=…/day=…/detections.parquet`."""


def _compared(name: str, duckdb_type: str, unit: str, meaning: str, *made_of: str) -> Column:
    both = tuple(f"{table}.{column}" for table in ("detections", "redetections") for column in made_of)
    return Column(name, duckdb_type, unit, meaning, both)


_BOX = ("label", "x", "y", "width", "height")
_VERSION = ("model_used", "model_sha256", "confidence_threshold")

MODEL_COMPARISON = Table(
    "model_comparison",
    "one label and one pair of models, over the frames that both processed",
    (
        Column("day", "DATE", "UTC", "The day; in Parquet it is part of the path."),
        Column("model_a", "VARCHAR", "`live`, `demo@0.3`", "One model; `live` stands for the detection runs."),
        Column("model_b", "VARCHAR", "`demo@0.3`", "The other model."),
        _compared("label", "VARCHAR", "", "Class name.", "label"),
        Column("frames", "BIGINT", "frames", "Frames of the day that both models processed."),
        _compared("count_a", "BIGINT", "detections", "Detections of A in these frames.", "label"),
        _compared("count_b", "BIGINT", "detections", "Detections of B in these frames.", "label"),
        _compared("matched", "BIGINT", "pairs", "Detections of A and B with an IoU of 0.5 or more, one to one.", *_BOX),
        _compared("only_a", "BIGINT", "detections", "Detections of A without one of B.", *_BOX),
        _compared("only_b", "BIGINT", "detections", "Detections of B without one of A.", *_BOX),
        _compared("agreement", "DOUBLE", "0 to 1", "`matched / (matched + only_a + only_b)`.", *_BOX),
        _compared("mean_iou", "DOUBLE", "0.5 to 1", "Mean IoU of the matched pairs; NULL if there is none.", *_BOX),
        _compared("models_a", "VARCHAR[]", "", "A in detail, as `name hash precision >threshold`, sorted.", *_VERSION),
        _compared("models_b", "VARCHAR[]", "", "B in detail, as `name hash precision >threshold`, sorted.", *_VERSION),
        Column("examples", "VARCHAR[]", "", "Keys of example images in which only one model found this label."),
    ),
)
"""Summary: `summaries/model_comparison/day=…/model_comparison.parquet`."""
