"""The long views of a query session: `frame_stats` with one row a bin (`sql/long/*.sql`)."""

from importlib import resources

from imgpipeline.lake.engine import Engine
from imgpipeline.lake.tables import LONG_VIEWS


def create_long_views(engine: Engine) -> None:
    """Creates all long views over the view `frame_stats` of a session."""
    for table in LONG_VIEWS:
        engine.run(f"CREATE VIEW {table.name} AS {long_sql(table.name)}")


def long_sql(name: str) -> str:
    """Returns the query of a long view."""
    return resources.files("imgpipeline.lake").joinpath("sql", "long", f"{name}.sql").read_text(encoding="utf-8")
