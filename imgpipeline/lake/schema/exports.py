"""The columns of the two tables that say what an exported file is: `about` and `about_chains`."""

from imgpipeline.lake.schema.columns import Column, Table

ABOUT = Table(
    "about",
    "the exported file",
    (
        Column("store_url", "VARCHAR", "", "The object store and prefix that was exported; it never has credentials."),
        Column("exported_at", "TIMESTAMPTZ", "UTC", "When the export began; outcomes after this may be missing."),
        Column("imgpipeline_version", "VARCHAR", "", "Version of imgpipeline that wrote the file."),
        Column("summary_threshold", "DOUBLE", "0 to 1", "Summaries of labels count confidences from here on."),
        Column("all_days", "BOOLEAN", "", "Whether the file holds all days that there were."),
        Column("first_day", "DATE", "UTC", "The first day in the file; NULL if it holds none."),
        Column("last_day", "DATE", "UTC", "The last day in the file; NULL if it holds none."),
    ),
)
"""One row."""

ABOUT_CHAINS = Table(
    "about_chains",
    "one chain of segments",
    (
        Column("topic", "VARCHAR", "", "Kafka topic."),
        Column("topic_id", "VARCHAR", "", "Which incarnation of the topic."),
        Column("partition", "INTEGER", "from 0", "Kafka partition."),
        Column("end_offset", "BIGINT", "from 0", "The file holds the outcomes of all offsets below this."),
    ),
)
"""The moment that all tables of the file show."""

EXPORT_TABLES = (ABOUT, ABOUT_CHAINS)
"""Tables that only exported files have."""
