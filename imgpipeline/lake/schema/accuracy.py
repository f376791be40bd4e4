"""The columns of the table `accuracy`: how far each count of a day is from what people counted on a random sample."""

from imgpipeline.lake.schema.tables import Column, Table

ACCURACY_SCHEMA_VERSION = 1
"""Version of these columns."""
_COUNTED = ("detections.label", "detections.confidence")

ACCURACY = Table(
    "accuracy",
    "one label of one source on one day, or in one part of the day, for which people count a random sample of frames",
    (
        Column("day", "DATE", "UTC", "The day; in Parquet it is part of the path."),
        Column("source", "VARCHAR", "", "The camera, video or folder.", ("detections.source",)),
        Column("label", "VARCHAR", "", "Class name.", ("detections.label",)),
        Column("part", "VARCHAR", "`day`, `00-06`, `06-12`, …", "The whole day, or six hours of it (UTC)."),
        Column("count", "BIGINT", "detections", "What the model counted in the population.", _COUNTED),
        Column("estimate", "DOUBLE", "objects", "The count corrected by the errors in the sample, or NULL.", _COUNTED),
        Column("low", "DOUBLE", "objects", "Lower end of the 95 % interval, or NULL.", _COUNTED),
        Column("high", "DOUBLE", "objects", "Upper end of the 95 % interval, or NULL.", _COUNTED),
        Column("frames", "BIGINT", "frames", "Size of the population: processed frames that the plan covers."),
        Column("samples", "BIGINT", "frames", "Frames of the sample that people counted."),
        Column("errors", "BIGINT", "frames", "Counted frames in which people and model differ.", _COUNTED),
        Column("undecided", "BIGINT", "frames", "Frames of the sample that people could not judge."),
        Column("seen", "DOUBLE", "objects", "How many objects people saw in the counted frames."),
        Column("variance", "DOUBLE", "objects²", "Variance of the estimate; variances of sources and days add up."),
        Column("agreement", "DOUBLE", "0 to 1", "Frames counted alike by two people; NULL if none was given to two."),
        Column("verdict", "VARCHAR", "`measured`, `not_enough`, `not_covered`", "Whether the interval can be used."),
    ),
)
"""`summaries/accuracy/day=…/accuracy.parquet`."""
