"""The columns of what other models found, and of comparisons.

Owns their names, types, units and meanings. Where they are stored belongs to `contracts.keys`, making them to the
modules beside.
"""

from imgpipeline.lake.tables import DETECTIONS, Column, Table

_MODEL = Column(
    "model", "VARCHAR", "`demo`, `demo@0.3`", "Which model looked again; in Parquet it is part of the path."
)
_DAY = Column("day", "DATE", "UTC", "Day of the frame's own time; in Parquet it is part of the path.")

REDETECTED_FRAMES = Table(
    "redetected_frames",
    "one frame of a day, with what became of it when another model looked at its picture again",
    (
        _MODEL,
        _DAY,
        Column("frame_id", "VARCHAR", "32 hexadecimal digits", "The frame, as in `frames`."),
        Column("source", "VARCHAR", "", "The camera, video or folder."),
        Column("timestamp", "TIMESTAMPTZ", "UTC", "The frame's own time."),
        Column("frame_number", "BIGINT", "from 0", "The frame's number within the source, or NULL."),
        Column("source_image_path", "VARCHAR", "", "The frame's image."),
        Column(
            "outcome",
            "VARCHAR",
            "`processed`, `gated`, `failed`",
            "Whether the model looked at it; `gated` as live, `failed` where the picture cannot be had any more.",
        ),
        Column(
            "code", "VARCHAR", "", "Why it failed, as of dead letters; why it was gated; NULL where it was processed."
        ),
        Column("message", "VARCHAR", "", "What was wrong, or NULL."),
        Column("detections", "INTEGER", "detections", "How many objects were found."),
        Column("model_used", "VARCHAR", "", "Name of the model."),
        Column("model_sha256", "VARCHAR", "hexadecimal", "SHA-256 of the model file."),
        Column("confidence_threshold", "DOUBLE", "0 to 1", "Detections have a confidence above this."),
        Column("nms_threshold", "DOUBLE", "0 to 1", "Overlap (IoU) above which the weaker of two boxes was dropped."),
    ),
)
"""`redetections/model=…/day=…/frames.parquet`."""

REDETECTIONS = Table(
    "redetections",
    "one object that another model found in one frame; beside `model`, the columns are those of `detections`",
    (_MODEL, *DETECTIONS.columns),
)
"""`redetections/model=…/day=…/detections.parquet`."""

MODEL_COMPARISON = Table(
    "model_comparison",
    "one label and one pair of models, over the frames that both have looked at",
    (
        Column("day", "DATE", "UTC", "The day; in Parquet it is part of the path."),
        Column("model_a", "VARCHAR", "`live`, `demo@0.3`", "One model; `live` is what detection runs found."),
        Column("model_b", "VARCHAR", "`demo@0.3`", "The other one."),
        Column("label", "VARCHAR", "", "Class name."),
        Column("frames", "BIGINT", "frames", "Frames of the day that both models have looked at."),
        Column("count_a", "BIGINT", "detections", "How many A found in them."),
        Column("count_b", "BIGINT", "detections", "How many B found in them."),
        Column(
            "matched", "BIGINT", "pairs", "Detections of A and B that belong together: IoU of 0.5 or more, one to one."
        ),
        Column("only_a", "BIGINT", "detections", "Detections of A without one of B."),
        Column("only_b", "BIGINT", "detections", "Detections of B without one of A."),
        Column("agreement", "DOUBLE", "0 to 1", "`matched / (matched + only_a + only_b)`."),
        Column("mean_iou", "DOUBLE", "0.5 to 1", "Mean IoU of the matched pairs; NULL where there is none."),
        Column("models_a", "VARCHAR[]", "", "What A was: sorted `model sha8 >threshold` of its frames."),
        Column("models_b", "VARCHAR[]", "", "What B was."),
        Column("examples", "VARCHAR[]", "", "Keys of pictures of the pair in which this label was found by only one."),
    ),
)
"""Summary: `summaries/model_comparison/day=…/model_comparison.parquet`."""

ALL = (REDETECTED_FRAMES, REDETECTIONS, MODEL_COMPARISON)
"""What is stored by this package."""
