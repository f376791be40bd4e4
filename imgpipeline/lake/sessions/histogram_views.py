"""The histogram views of a query session: `frame_stats` with one row a bin (`histograms_sql/*.sql`)."""

from importlib import resources

from imgpipeline.lake.schema import HISTOGRAM_VIEWS
from imgpipeline.lake.storage.engine import Engine


def create_histogram_views(engine: Engine) -> None:
    """Creates all histogram views over the view `frame_stats` of a session."""
    for table in HISTOGRAM_VIEWS:
        engine.run(f"CREATE VIEW {table.name} AS {histogram_sql(table.name)}")


def histogram_sql(name: str) -> str:
    """Returns the query of a histogram view."""
    return (
        resources.files("imgpipeline.lake.sessions")
        .joinpath("histograms_sql", f"{name}.sql")
        .read_text(encoding="utf-8")
    )
