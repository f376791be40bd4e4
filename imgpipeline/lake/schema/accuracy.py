"""The columns of the table `accuracy`: how far each count of a day is from what people counted on a random sample."""

from imgpipeline.lake.schema.tables import Column, Table

ACCURACY_SCHEMA_VERSION = 1
"""Version of these columns and of the estimator. Raising it makes the table of every day again."""
_COUNTED = ("detections.label", "detections.confidence")

ACCURACY = Table(
    "accuracy",
    "one label of one source on one day, or in one part of the day, for which people count a random sample",
    (
        Column("day", "DATE", "UTC", "The day; in Parquet it is part of the path."),
        Column("source", "VARCHAR", "", "The camera, video or folder.", ("detections.source",)),
        Column("label", "VARCHAR", "", "Class name; of a line such as `door: person in`.", ("detections.label",)),
        Column("part", "VARCHAR", "`day`, `00-06`, `06-12`, …", "The whole day, or six hours of it (UTC)."),
        Column("line", "VARCHAR", "", "The line, if people count crossings: the unit is then a slice of two minutes."),
        Column("count", "BIGINT", "detections", "What the model counted in the population.", _COUNTED),
        Column("estimate", "DOUBLE", "objects", "The count corrected by the errors in the sample.", _COUNTED),
        Column("low", "DOUBLE", "objects", "Lower end of the 95 % interval, or NULL.", _COUNTED),
        Column("high", "DOUBLE", "objects", "Upper end of the 95 % interval, or NULL.", _COUNTED),
        Column("verdict", "VARCHAR", "`measured`, `not_enough`, `not_covered`", "Whether there is an interval."),
        Column(
            "frames",
            "BIGINT",
            "frames",
            "Size of the population: the processed frames (or slices) that a plan covers.",
        ),
        Column("samples", "BIGINT", "frames", "Frames of the sample that people counted."),
        Column("errors_seen", "BIGINT", "frames", "Counted frames in which people and model differ.", _COUNTED),
        Column("undecided", "BIGINT", "frames", "Frames of the sample that people could not judge."),
        Column("agreement", "DOUBLE", "0 to 1", "Frames that two people counted alike; NULL if two counted none."),
        Column("seen", "DOUBLE", "objects", "How many objects people saw in the counted frames."),
        Column("correction", "DOUBLE", "objects", "Estimated sum of the errors, people minus model.", _COUNTED),
        Column("variance", "DOUBLE", "objects²", "Variance of the correction. Variances of sources and days add up."),
        Column("degrees", "DOUBLE", "", "Degrees of freedom of the variance."),
        Column("below", "DOUBLE", "objects", "How much lower the estimate may be for undecided frames."),
        Column("above", "DOUBLE", "objects", "How much higher the estimate may be for undecided frames."),
        Column("unseen", "DOUBLE", "objects", "Half width for frames among which no error was seen."),
        Column("covered", "BOOLEAN", "", "Whether the plan covers all frames of the day."),
    ),
)
"""`summaries/accuracy/day=…/accuracy.parquet`."""
