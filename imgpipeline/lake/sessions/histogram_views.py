"""The histogram views of a query session: `frame_stats` with one row a bin (`histograms_sql/*.sql`)."""

from importlib import resources

from imgpipeline.lake.schema import FRAME_STATS, HISTOGRAM_VIEWS
from imgpipeline.lake.storage.engine import Engine, identifier


def create_histogram_views(engine: Engine) -> None:
    """Creates all histogram views; call it before the view `frame_stats` is created.

    DuckDB plans a view when it is created and again when it is read. Over an empty table with the columns of
    `frame_stats` the first plan is cheap; over the view itself the plans are a quarter of the cost of a session.
    """
    columns = ", ".join(f"{identifier(column.name)} {column.duckdb_type}" for column in FRAME_STATS.columns)
    engine.run(f"CREATE TABLE {FRAME_STATS.name} ({columns})")
    for table in HISTOGRAM_VIEWS:
        engine.run(f"CREATE VIEW {table.name} AS {histogram_sql(table.name)}")
    engine.run(f"DROP TABLE {FRAME_STATS.name}")


def histogram_sql(name: str) -> str:
    """Returns the query of a histogram view."""
    return (
        resources.files("imgpipeline.lake.sessions")
        .joinpath("histograms_sql", f"{name}.sql")
        .read_text(encoding="utf-8")
    )
